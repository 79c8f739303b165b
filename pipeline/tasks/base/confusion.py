"""Counts of true and predicted labels, whose size does not grow with the square of the labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_SHOWN = 50
"""Labels that a confusion matrix counts; the others are counted as one."""
MAX_CONFUSED = 20
"""Maximum number of labels in a drawn confusion matrix."""


@dataclass(frozen=True)
class LabelCounts:
    """The summed counts of an evaluation, for C labels. S labels are shown."""

    true: Tensor
    """[C] rows that have the label."""
    predicted: Tensor
    """[C] rows that are predicted to have it."""
    correct: Tensor
    """[C] rows of both kinds."""
    unknown: Tensor
    """[] rows whose true label is unknown; they are also in `predicted`."""
    table: Tensor
    """[S, S] confusion matrix (true, predicted)."""


class Confusion:
    """Counts of (true, predicted) pairs of C labels.

    With more than MAX_SHOWN labels, the confusion matrix has the most frequent ones; its last row
    and column are all others.
    """

    def __init__(self, labels: Sequence[str], counts: Sequence[int] = ()) -> None:
        """`counts` are the numbers of rows of the labels, if known."""
        self.count = len(labels)
        self.labels, self.left_out = list(labels), 0
        self._groups = torch.arange(self.count)  # [C] row of the matrix
        self._largest = max(range(self.count), key=counts.__getitem__) if counts else None
        if self.count > MAX_SHOWN:
            frequent = list(range(self.count))
            if counts:
                frequent.sort(key=lambda label: -counts[label])
            shown = sorted(frequent[:MAX_SHOWN])
            self.left_out = self.count - MAX_SHOWN
            self.labels = [*(labels[label] for label in shown), f"{self.left_out:,} others"]
            self._groups = torch.full((self.count,), MAX_SHOWN)
            self._groups[shown] = torch.arange(MAX_SHOWN)

    @property
    def size(self) -> int:
        """Number of the sums."""
        return 3 * self.count + 1 + len(self.labels) ** 2

    def sums(self, true: Tensor, predicted: Tensor, weights: Tensor) -> Tensor:
        """Return the counts of N pairs, with weights [N], to be added up over batches.

        A true label of C or more is unknown.
        """
        weights, count = weights.double(), self.count
        groups, side = self._groups.to(true.device), len(self.labels)
        known = true < count
        cells = groups[true.clamp(max=count - 1)] * side + groups[predicted]
        return torch.cat(
            [
                torch.bincount(predicted, weights, count),
                torch.bincount(predicted, weights * (true == predicted), count),
                torch.bincount(true.clamp(max=count), weights, count + 1),
                torch.bincount(cells, weights * known, side**2),
            ]
        )

    def unpack(self, sums: Tensor) -> LabelCounts:
        """Return the counts in sums over all batches [self.size]."""
        count, side = self.count, len(self.labels)
        predicted, correct, true, unknown, table = sums.split([count, count, count, 1, side**2])
        return LabelCounts(true, predicted, correct, unknown[0], table.view(side, side))

    def largest(self, true: Tensor) -> int:
        """Return the most frequent label: of the dataset if known, else among true counts [C]."""
        return self._largest if self._largest is not None else int(true.argmax())


def confused_pairs(
    table: Sequence[Sequence[int]], labels: Sequence[str], left_out: int = 0, most: int = 3
) -> list[tuple[str, str, int]]:
    """Return (true, predicted, count) of the most frequent confusions of a confusion matrix.

    If some labels are `left_out`, the last row and column count those together and are ignored.
    """
    size = len(table) - bool(left_out)
    pairs = [
        (table[true][predicted], -true, -predicted)
        for true in range(size)
        for predicted in range(size)
        if true != predicted and table[true][predicted]
    ]
    worst = sorted(pairs, reverse=True)[:most]
    return [(labels[-true], labels[-predicted], int(number)) for number, true, predicted in worst]


def most_confused(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the indices of the labels of a confusion matrix to show, ascending.

    All are shown, or the MAX_CONFUSED labels with the most false positives and false negatives.
    """
    if len(counts) <= MAX_CONFUSED:
        return np.arange(len(counts))
    errors = counts.sum(0) + counts.sum(1) - 2 * counts.diagonal()
    return np.sort(np.argsort(-errors, kind="stable")[:MAX_CONFUSED])
