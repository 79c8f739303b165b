"""Scores of labels in predictions."""

from collections.abc import Sequence

from torch import Tensor

MAX_SCORES = 50
"""Labels in a prediction, the most probable ones if there are more."""


def top_scores(labels: Sequence[str], probabilities: Tensor) -> list[dict[str, float]]:
    """Return the probability of each label by name, for each row of probabilities [B, C].

    They are in the order of the labels. Of more than MAX_SCORES labels only the most probable ones
    are returned, the highest first.
    """
    if len(labels) <= MAX_SCORES:
        return [
            {name: round(p, 6) for name, p in zip(labels, row, strict=True)}
            for row in probabilities.tolist()
        ]
    values, indices = probabilities.topk(MAX_SCORES, -1)
    return [
        {labels[k]: round(p, 6) for k, p in zip(row, row_values, strict=True)}
        for row, row_values in zip(indices.tolist(), values.tolist(), strict=True)
    ]
