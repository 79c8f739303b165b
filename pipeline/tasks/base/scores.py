"""Scores of labels in predictions."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

MAX_SCORES = 50
"""Labels in a prediction without `top_k`, the most probable ones if there are more."""


def top_scores(
    labels: Sequence[str], probabilities: Tensor, top_k: int = 0
) -> list[dict[str, Any]]:
    """Return the `scores` of each row of probabilities [B, C]: the probability of each label by
    name, in the order of the labels.

    With `top_k`, only that number of the most probable labels is returned, the highest first, and
    `scores_left_out`, the number of the others; without it the same for more than MAX_SCORES
    labels.
    """
    size = min(top_k or MAX_SCORES, len(labels))
    if not top_k and len(labels) <= MAX_SCORES:
        return [
            {"scores": {name: round(p, 6) for name, p in zip(labels, row, strict=True)}}
            for row in probabilities.tolist()
        ]
    values, indices = probabilities.topk(size, -1)
    left_out = {"scores_left_out": len(labels) - size} if size < len(labels) else {}
    return [
        {
            "scores": {labels[k]: round(p, 6) for k, p in zip(row, row_values, strict=True)},
            **left_out,
        }
        for row, row_values in zip(indices.tolist(), values.tolist(), strict=True)
    ]
