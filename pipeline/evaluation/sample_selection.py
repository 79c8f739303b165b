"""The rows of the validation split that a person is shown what the model makes of."""

from collections.abc import Iterable, Iterator
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from pipeline.runtime.precision import Precision
from pipeline.stream.batch import Batch
from pipeline.tasks.sample import Sample
from pipeline.tasks.task import Task

ROWS = 8


class SampleSelection:
    """The same few rows after each evaluation: of all that this rank evaluates those of the least
    keys, which are random numbers of the rows' own. They are found in passing, in the first one."""

    def __init__(self, task: Task, rows: int = ROWS) -> None:
        self._task, self._count = task, rows
        self._rows: list[tuple[int, Batch]] = []
        """Keys and rows, the least first, while they are looked for; then those to show."""
        self._found = False

    def passing(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches."""
        if self._found:
            yield from batches
            return
        self._rows = []
        for batch in batches:
            self._look(batch)
            yield batch
        self._found = True

    @torch.no_grad()
    def samples(self, model: nn.Module, precision: Precision) -> list[Sample]:
        """What the task shows of these rows. Draws nothing from torch's generator."""
        if not self._rows:
            return []
        training = model.training
        model.eval()
        try:
            with precision.autocast():
                batch = _together([row for _, row in self._rows]).to(precision.device)
                return self._task.samples(model, batch)
        finally:
            model.train(training)

    def _look(self, batch: Batch) -> None:
        usable = self._task.displayable(batch).nonzero()[:, 0]
        keys = batch.keys[usable]
        least = keys.argsort()[: self._count]
        places = zip(keys[least].tolist(), usable[least].tolist(), strict=True)
        found = ((key, _row(batch, place)) for key, place in places)
        self._rows = list(islice(sorted([*self._rows, *found], key=lambda r: r[0]), self._count))


def _row(batch: Batch, place: int) -> Batch:
    """One row, in memory of its own."""

    def of(x: Tensor) -> Tensor:
        return x[place : place + 1].clone()

    columns = {name: of(column) for name, column in batch.columns.items()}
    return Batch(columns, of(batch.lengths), of(batch.weights), of(batch.keys))


def _together(rows: list[Batch]) -> Batch:
    """One batch, lists padded with 0 to the longest."""
    columns = {}
    for name, first in rows[0].columns.items():
        parts = [row.columns[name] for row in rows]
        if first.dim() > 1:
            width = max(part.shape[1] for part in parts)
            beyond = [0, 0] * (first.dim() - 2)
            parts = [pad(part, (*beyond, 0, width - part.shape[1])) for part in parts]
        columns[name] = torch.cat(parts)
    lengths, weights, keys = (
        torch.cat([getattr(row, name) for row in rows]) for name in ("lengths", "weights", "keys")
    )
    return Batch(columns, lengths, weights, keys)
