"""Batches of rows to whole documents, each with what the model says of it.

A long document may have been split into several rows, its segments (`corpus.overflow`), which
fall into any batches of any ranks. They are put aside until all rows are through; then those of
one document are brought to one rank and made one row, as `Task.outputs` says.

Legend: B rows of a batch, T tokens of its longest row, F figures that the task says of a row or of
a token; S segments, N tokens of all of them, D documents.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from pipeline.tasks.task import Task

LENGTHS, OUTPUTS = ".lengths", ".outputs"
"""Columns beside those of the shards."""
BATCH_TOKENS = 1 << 18
"""Padded tokens of a batch of documents that were put together."""

Values = NDArray[Any]


@torch.no_grad()
def document_outputs(
    task: Task, model: nn.Module, batches: Iterable[Batch], precision: Precision, world: World
) -> Iterator[tuple[Tensor, Batch]]:
    """The task's outputs and the rows that they are of. Each row is a document, or has weight 0.

    A document that is one row comes with its batch, the others at the end. Every rank must ask for
    all, and do so in step.
    """
    training = model.training
    model.eval()
    segments = _Segments(task.per_row_fields)
    for batch in batches:
        rows = _of_several(batch)
        whole = replace(batch, weights=batch.weights * ~rows).to(world.device)
        with precision.autocast():
            outputs = task.outputs(model, whole)
        segments.put_aside(batch, outputs, rows)
        yield outputs, whole
    for batch in segments.put_together(world):
        yield batch.columns.pop(OUTPUTS), batch
    model.train(training)


def _of_several(batch: Batch) -> Tensor:
    """[B] whether a row is one of several of its document."""
    if SEGMENTS not in batch.columns:
        return torch.zeros(len(batch.weights), dtype=torch.bool)
    return batch.columns[SEGMENTS] > 1


class _Segments:
    """Rows put aside, in the memory of the CPU."""

    def __init__(self, per_row_fields: Sequence[str]) -> None:
        self._of_rows = set(per_row_fields)
        self._rows: dict[str, list[Tensor]] = defaultdict(list)
        """By column, what there is one of a row: [S] or [S, F]; lists [S, their longest]."""
        self._tokens: dict[str, list[Tensor]] = defaultdict(list)
        """What there is one of a token, row after row: [N] or [N, F]."""

    def put_aside(self, batch: Batch, outputs: Tensor, rows: Tensor) -> None:
        """Take the `rows` [B] of a batch."""
        if self._rows and not rows.any():  # the first batch counts: it shows what columns there are
            return
        lengths = batch.lengths[rows]
        self._rows[LENGTHS].append(lengths)
        for name, column in batch.columns.items():
            lists = column.dim() > 1 and name not in self._of_rows
            self._take(name, column[rows], lengths, lists=lists)
        outputs = outputs[rows.to(outputs.device)].cpu()
        self._take(OUTPUTS, outputs, lengths, lists=outputs.dim() == 3)

    def _take(self, name: str, values: Tensor, lengths: Tensor, *, lists: bool) -> None:
        if lists:
            valid = torch.arange(values.shape[1]) < lengths[:, None]  # [S, T]
            self._tokens[name].append(values[valid])
        else:
            self._rows[name].append(values)

    def put_together(self, world: World) -> Iterator[Batch]:
        """The documents of this rank's share, with their outputs as a column."""
        if DOCUMENT not in self._rows:
            return
        for name in sorted(self._of_rows & self._rows.keys()):
            parts = self._rows[name]
            width = max(world.gather(max(part.shape[1] for part in parts)))
            self._rows[name] = [pad(part, (0, width - part.shape[1])) for part in parts]
        rows, tokens = _in_one(self._rows), _in_one(self._tokens)
        owner = rows[DOCUMENT] % world.size  # [S]
        token_owner = owner.repeat_interleave(rows[LENGTHS])  # [N]
        own_rows = {n: world.exchange(values, owner).numpy() for n, values in rows.items()}
        own_tokens = {n: world.exchange(v, token_owner).numpy() for n, v in tokens.items()}
        if len(own_rows[DOCUMENT]):
            for batch in buckets(_whole(own_rows, own_tokens), BATCH_TOKENS):
                yield batch.to(world.device)


def _in_one(columns: dict[str, list[Tensor]]) -> dict[str, Tensor]:
    """Each column in one, and let go of its parts."""
    return {name: torch.cat(columns.pop(name)) for name in list(columns)}


def _whole(rows: Mapping[str, Values], tokens: Mapping[str, Values]) -> Columns:
    """Whole documents of their segments, which come in any order.

    What there is one of a token is put end to end. Of what there is one of a row, floats are
    averaged over the tokens; whole numbers are those of the first segment.
    """
    order = np.lexsort((rows[SEGMENT], rows[DOCUMENT]))  # [S]
    weights = rows[LENGTHS][order]  # [S]
    moved = np.cumsum(rows[LENGTHS])[order] - np.cumsum(weights)  # [S] by how far, for its tokens
    token_order = np.repeat(moved, weights)  # [N]
    token_order += np.arange(len(token_order))
    _, first = np.unique(rows[DOCUMENT][order], return_index=True)  # [D]
    lengths = np.add.reduceat(weights, first)  # [D]
    columns: dict[str, Ragged | Values] = {}
    for name, values in tokens.items():
        columns[name] = Ragged.of(values[token_order], lengths)
    for name, values in rows.items():
        if values.dtype.kind == "f":
            sums = np.add.reduceat(values[order] * weights[:, None], first)  # [D, F]
            columns[name] = sums / lengths[:, None]
        else:
            columns[name] = values[order[first]]
    return columns
