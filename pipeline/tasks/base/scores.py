"""Scores of labels in predictions."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

MAX_SCORES = 50
"""Labels in a prediction, the most probable ones if there are more."""


def score_types(labels: Sequence[str]) -> dict[str, Any]:
    """Return the types of the values that `top_scores` returns, as `Task.prediction_types` does."""
    if len(labels) <= MAX_SCORES:
        return {"scores": dict.fromkeys(labels, float)}
    return {"scores": dict[str, float], "scores_left_out": int}


def top_scores(labels: Sequence[str], probabilities: Tensor) -> list[dict[str, Any]]:
    """Return the `scores` of each row of probabilities [B, C]: the probability of each label by
    name, in the order of the labels.

    Of more than MAX_SCORES labels only the most probable ones are returned, the highest first, and
    `scores_left_out`, the number of the others.
    """
    if len(labels) <= MAX_SCORES:
        return [
            {"scores": {name: round(p, 6) for name, p in zip(labels, row, strict=True)}}
            for row in probabilities.tolist()
        ]
    values, indices = probabilities.topk(MAX_SCORES, -1)
    return [
        {
            "scores": {labels[k]: round(p, 6) for k, p in zip(row, row_values, strict=True)},
            "scores_left_out": len(labels) - MAX_SCORES,
        }
        for row, row_values in zip(indices.tolist(), values.tolist(), strict=True)
    ]
