"""Selects a few validation rows and shows the model's predictions on them after each evaluation."""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pipeline.runtime.precision import Precision
from pipeline.stream.batch import Batch
from pipeline.tasks.base.sample import Sample
from pipeline.tasks.base.task import Task

SAMPLE_ROWS = 8
"""Rows that are shown."""


class SampleSelection:
    """The same few rows after each evaluation.

    The selected rows are those with the smallest keys among the rows that this rank evaluates. A
    row's key is a random number of its own, so the selection is random but does not depend on the
    order of the batches. Rows are selected during the first complete evaluation, as its batches
    pass through `observe`.
    """

    def __init__(self, task: Task, rows: int = SAMPLE_ROWS) -> None:
        self._task, self._count = task, rows
        self._selected: list[tuple[int, Batch]] = []
        """Keys and one-row batches, sorted by key; the smallest keys seen so far."""
        self._is_final = False

    def observe(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches unchanged; select rows from them until an evaluation is complete."""
        if self._is_final:
            yield from batches
            return
        self._selected = []
        for batch in batches:
            self._select(batch)
            yield batch
        self._is_final = True

    @torch.no_grad()
    def samples(self, model: nn.Module, precision: Precision) -> list[Sample]:
        """Return the task's samples of the selected rows. Does not use torch's global generator."""
        if not self._selected:
            return []
        training = model.training
        model.eval()
        try:
            with precision.autocast():
                batch = _concatenate([row for _, row in self._selected]).to(precision.device)
                return self._task.samples(model, batch)
        finally:
            model.train(training)

    def _select(self, batch: Batch) -> None:
        """Keep the rows with the smallest keys among the selected rows and a batch's rows."""
        candidates = self._task.displayable(batch).nonzero()[:, 0]
        keys = batch.keys[candidates]
        smallest = keys.argsort()[: self._count]
        indices = zip(keys[smallest].tolist(), candidates[smallest].tolist(), strict=True)
        new = ((key, _copy_row(batch, index)) for key, index in indices)
        rows = sorted([*self._selected, *new], key=lambda keyed_row: keyed_row[0])
        self._selected = list(islice(rows, self._count))


def _copy_row(batch: Batch, index: int) -> Batch:
    """Return a batch of one row that does not share memory with the original batch."""

    def copy(x: Tensor) -> Tensor:
        return x[index : index + 1].clone()

    columns = {name: copy(column) for name, column in batch.columns.items()}
    return Batch(columns, copy(batch.lengths), copy(batch.weights), copy(batch.keys))


def _concatenate(rows: list[Batch]) -> Batch:
    """Concatenate one-row batches; list columns are padded with 0 to the longest row."""
    columns = {}
    for name, first in rows[0].columns.items():
        parts = [row.columns[name] for row in rows]
        if first.dim() > 1:
            width = max(part.shape[1] for part in parts)
            trailing = [0, 0] * (first.dim() - 2)
            parts = [pad(part, (*trailing, 0, width - part.shape[1])) for part in parts]
        columns[name] = torch.cat(parts)
    lengths, weights, keys = (
        torch.cat([getattr(row, name) for row in rows]) for name in ("lengths", "weights", "keys")
    )
    return Batch(columns, lengths, weights, keys)
