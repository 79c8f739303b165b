"""The rows on which a calibration is fitted: scores and targets of documents, in a fixed order.

Shapes: N rows, C labels.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.field_spec import DOCUMENT
from pipeline.errors import TrainingError
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.stream.hashing import draw
from pipeline.tasks.base.metric import LABEL
from pipeline.tasks.base.task import Task

MAX_VALUES = 1 << 24
"""Maximum number of scores, N * C: 128 MiB. If there are more, a random sample of rows is used."""
FOLDS = 5
CROSS_FITTING, EVIDENCE = 0, 1
"""Purposes of folds: to measure a fit on other rows, and to decide within a fit whether there is
enough evidence."""


@dataclass(frozen=True)
class ScoredRows:
    """Rows with the model's scores."""

    scores: Tensor
    """Probabilities, float64 [N, C]."""
    targets: Tensor
    """Indices of the true labels, int64 [N], or bool [N, C] if a row can have several labels."""
    hashes: Tensor
    """A random int64 [N] per document, ascending, which depends only on the document's key."""

    def __len__(self) -> int:
        return len(self.hashes)

    def select(self, rows: Tensor) -> "ScoredRows":
        """Return some of the rows, given a mask or ascending indices."""
        return ScoredRows(self.scores[rows], self.targets[rows], self.hashes[rows])

    def folds(self, purpose: int) -> list[Tensor]:
        """Return the rows of each fold, bool [N], by their documents.

        The folds of CROSS_FITTING and of EVIDENCE are independent of each other.
        """
        folds = (self.hashes >> (8 + 12 * purpose)) % FOLDS
        return [folds == fold for fold in range(FOLDS)]


class RowCollector:
    """Collects the rows of an evaluation on this rank."""

    def __init__(self, task: Task, max_values: int = MAX_VALUES) -> None:
        self._task = task
        self._max_rows = max(max_values // len(task.labels), 1)
        self._parts: list[ScoredRows] = []

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Add the documents of a batch on the CPU, with the task's outputs.

        Rows with a label that the dataset does not have are left out.
        """
        scores, targets = self._task.scored(outputs, batch)
        labels = scores.shape[1]
        known = batch.weights > 0
        if self._task.predicts == LABEL:
            known &= targets < labels
        else:
            known &= ~(targets[:, labels:] > 0).any(1)
            targets = targets[:, :labels] > 0
        keys = batch.columns.get(DOCUMENT, batch.keys)
        hashes = draw(0, keys.numpy()).astype(np.int64)  # wraps around
        found = ScoredRows(scores.double(), targets, torch.from_numpy(hashes)).select(known)
        self._parts.append(found)
        if sum(map(len, self._parts)) > 2 * self._max_rows:
            self._parts = [_first(self._parts, self._max_rows)]

    def rows(self, world: World) -> ScoredRows:
        """Return the rows of all ranks, in an order that does not depend on the number of ranks.

        Collective: every rank must call it. Raises TrainingError if there are no rows.
        """
        if not self._parts:
            raise TrainingError("the split has no readable row; prepare the dataset again")
        own = _first(self._parts, self._max_rows)
        hashes = torch.cat(world.gather(own.hashes)).sort().values
        last = hashes[: self._max_rows][-1:]
        parts = world.gather(own.select(own.hashes <= last))
        return _first(parts, self._max_rows)


def _first(parts: list[ScoredRows], size: int) -> ScoredRows:
    """Return the rows with the `size` smallest hashes, sorted by them."""
    joined = ScoredRows(
        torch.cat([part.scores for part in parts]),
        torch.cat([part.targets for part in parts]),
        torch.cat([part.hashes for part in parts]),
    )
    return joined.select(joined.hashes.argsort(stable=True)[:size])
