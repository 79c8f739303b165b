"""Turns batches of rows into whole documents with the task's outputs for each.

A long document may be split into several rows, its segments (`corpus.overflow`), which may be in
any batch of any rank. Segments are buffered until all rows have passed through the model. Then all
segments of a document are sent to one rank and merged into one row, as `Task.outputs` describes.

Shapes: B rows of a batch, T tokens of its longest row, F values that the task outputs per row or
per token; S segments, N tokens of all segments, D documents.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import pad

from pipeline.corpus.field_spec import DOCUMENT, SEGMENT, SEGMENTS
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.stream.bucket import buckets
from pipeline.stream.rows import Columns, Ragged
from pipeline.tasks.base.task import Task

LENGTHS, OUTPUTS = ".lengths", ".outputs"
"""Columns of the buffer that are not columns of the shards."""
MAX_BATCH_TOKENS = 1 << 18
"""Tokens, with padding, of a batch of merged documents."""

Values = NDArray[Any]


@torch.no_grad()
def document_outputs(
    task: Task,
    model: nn.Module,
    batches: Iterable[Batch],
    precision: Precision,
    world: World,
    compute: Callable[[nn.Module, Batch], Tensor] | None = None,
) -> Iterator[tuple[Tensor, Batch]]:
    """Yield the task's outputs, [B, F] or [B, T, F], with the batch of the rows they belong to.

    `compute` replaces `Task.outputs`.

    Each row is a whole document, or has weight 0. Documents of one row come with their own batch;
    documents of several segments follow at the end.

    Collective: every rank must consume the iterator to its end, because the ranks exchange
    segments there. The model is in evaluation mode meanwhile; its mode is restored when the
    iterator ends or is closed.
    """
    training = model.training
    if training:
        model.eval()
    try:
        buffer = _SegmentBuffer(task.per_row_fields)
        for batch in batches:
            is_segment = _is_segment(batch)
            documents = replace(batch, weights=batch.weights * ~is_segment).to(world.device)
            with precision.autocast():
                outputs = (compute or task.outputs)(model, documents)
            buffer.add(batch, outputs, is_segment)
            yield outputs, documents
        for batch in buffer.merge(world):
            yield batch.columns.pop(OUTPUTS), batch
    finally:
        if training:
            model.train()


def _is_segment(batch: Batch) -> Tensor:
    """Return [B] bool: whether a row is one of several segments of its document."""
    if SEGMENTS not in batch.columns:
        return torch.zeros(len(batch.weights), dtype=torch.bool)
    return batch.columns[SEGMENTS] > 1


class _SegmentBuffer:
    """Segments and their outputs, in CPU memory."""

    def __init__(self, per_row_fields: Sequence[str]) -> None:
        self._per_row_fields = set(per_row_fields)
        self._per_row: dict[str, list[Tensor]] = defaultdict(list)
        """Values per row, by column: [S] or [S, F]; lists are [S, longest list]."""
        self._per_token: dict[str, list[Tensor]] = defaultdict(list)
        """Values per token, by column, row after row: [N] or [N, F]."""

    def add(self, batch: Batch, outputs: Tensor, selected: Tensor) -> None:
        """Add the `selected` [B] rows of a batch and their outputs."""
        if self._per_row and not selected.any():  # the first batch is added to learn the columns
            return
        lengths = batch.lengths[selected]
        self._per_row[LENGTHS].append(lengths)
        for name, column in batch.columns.items():
            per_token = column.dim() > 1 and name not in self._per_row_fields
            self._append(name, column[selected], lengths, per_token=per_token)
        outputs = outputs[selected.to(outputs.device)].cpu()
        self._append(OUTPUTS, outputs, lengths, per_token=outputs.dim() == 3)

    def _append(self, name: str, values: Tensor, lengths: Tensor, *, per_token: bool) -> None:
        if per_token:
            valid = torch.arange(values.shape[1]) < lengths[:, None]  # [S, T]
            self._per_token[name].append(values[valid])
        else:
            self._per_row[name].append(values)

    def merge(self, world: World) -> Iterator[Batch]:
        """Yield batches of this rank's share of the merged documents; outputs are a column."""
        if DOCUMENT not in self._per_row:
            return
        for name in sorted(self._per_row_fields & self._per_row.keys()):
            parts = self._per_row[name]
            width = max(world.gather(max(part.shape[1] for part in parts)))
            self._per_row[name] = [pad(part, (0, width - part.shape[1])) for part in parts]
        rows, tokens = _concatenate(self._per_row), _concatenate(self._per_token)
        row_rank = rows[DOCUMENT] % world.size  # [S]
        token_rank = row_rank.repeat_interleave(rows[LENGTHS])  # [N]
        rank_rows = {n: world.exchange(values, row_rank).numpy() for n, values in rows.items()}
        rank_tokens = {n: world.exchange(v, token_rank).numpy() for n, v in tokens.items()}
        if len(rank_rows[DOCUMENT]):
            for batch in buckets(_merge_segments(rank_rows, rank_tokens), MAX_BATCH_TOKENS):
                yield batch.to(world.device)


def _concatenate(columns: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """Concatenate the parts of each column and remove them from `columns` to free their memory."""
    return {name: torch.cat(columns.pop(name)) for name in list(columns)}


def _merge_segments(rows: Mapping[str, Values], tokens: Mapping[str, Values]) -> Columns:
    """Merge segments, given in any order, into documents.

    Values per token are concatenated. The outputs per row are averaged, weighted by the segments'
    tokens; of the other values per row, those of the first segment are taken.
    """
    order = np.lexsort((rows[SEGMENT], rows[DOCUMENT]))  # [S]
    weights = rows[LENGTHS][order]  # [S]
    shift = np.cumsum(rows[LENGTHS])[order] - np.cumsum(weights)  # [S] from new to old token index
    token_order = np.repeat(shift, weights)  # [N]
    token_order += np.arange(len(token_order))
    _, first = np.unique(rows[DOCUMENT][order], return_index=True)  # [D]
    lengths = np.add.reduceat(weights, first)  # [D]
    columns: dict[str, Ragged | Values] = {}
    for name, values in tokens.items():
        columns[name] = Ragged.of(values[token_order], lengths)
    for name, values in rows.items():
        if name == OUTPUTS:
            sums = np.add.reduceat(values[order] * weights[:, None], first)  # [D, F]
            columns[name] = sums / lengths[:, None]
        else:
            columns[name] = values[order[first]]
    return columns
