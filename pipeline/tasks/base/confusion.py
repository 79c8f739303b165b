"""Counts of true and predicted labels, whose size does not grow with the square of the labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

MAX_SHOWN = 50
"""Labels that a confusion matrix or a prediction shows; the others are counted as one."""


@dataclass(frozen=True)
class LabelCounts:
    """The summed counts of an evaluation, for C labels. S labels are shown."""

    true: Tensor
    """[C] rows that have the label."""
    predicted: Tensor
    """[C] rows that are predicted to have it."""
    correct: Tensor
    """[C] rows of both kinds."""
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
        return 3 * self.count + len(self.labels) ** 2

    def sums(self, true: Tensor, predicted: Tensor, weights: Tensor) -> Tensor:
        """Return the counts of N pairs, with weights [N], to be added up over batches."""
        weights = weights.double()
        groups, side = self._groups.to(true.device), len(self.labels)
        cells = groups[true] * side + groups[predicted]
        return torch.cat(
            [
                torch.bincount(true, weights, self.count),
                torch.bincount(predicted, weights, self.count),
                torch.bincount(true, weights * (true == predicted), self.count),
                torch.bincount(cells, weights, side**2),
            ]
        )

    def unpack(self, sums: Tensor) -> LabelCounts:
        """Return the counts in sums over all batches [self.size]."""
        true, predicted, correct = sums[: 3 * self.count].view(3, self.count)
        side = len(self.labels)
        return LabelCounts(true, predicted, correct, sums[3 * self.count :].view(side, side))


def top_scores(labels: Sequence[str], scores: Sequence[float]) -> Mapping[str, Any]:
    """Return the `scores` of a prediction by label: all, or those of the most probable labels and
    the number of the others, `scores_left_out`."""
    if len(labels) <= MAX_SHOWN:
        return {"scores": {name: round(p, 6) for name, p in zip(labels, scores, strict=True)}}
    best = torch.tensor(scores).topk(MAX_SHOWN).indices.tolist()
    return {
        "scores": {labels[k]: round(scores[k], 6) for k in best},
        "scores_left_out": len(labels) - MAX_SHOWN,
    }
