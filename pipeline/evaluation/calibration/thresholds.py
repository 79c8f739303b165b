"""Fits thresholds that maximize F1; a label is predicted if its probability reaches its threshold.

The best threshold of a label with few rows is mostly noise. For a label that the model does not
recognize, the best threshold predicts the label for all rows (Lipton et al. 2014, "Optimal
Thresholding of Classifiers to Maximize F1 Measure"). Hence the rules for enough evidence.

Shapes: N rows, C labels, K scores.
"""

import torch
from torch import Tensor

from pipeline.evaluation.calibration.scored_rows import EVIDENCE, ScoredRows
from pipeline.tasks.base.calibration import DEFAULT_THRESHOLD

MIN_POSITIVES = 20
"""Minimum number of rows with a label, and of rows without it, for a threshold of its own."""


def fit_shared(rows: ScoredRows) -> tuple[float, str]:
    """Return the threshold with the largest micro F1, and an empty string; or 0.5 and the reason if
    there is not enough evidence for another one.

    There is enough if the rows have MIN_POSITIVES labels, and micro F1 of rows that the threshold
    was not fitted on is larger than with 0.5.
    """
    positives = int(rows.targets.sum())
    if positives < MIN_POSITIVES:
        reason = f"only {positives:,} true labels, at least {MIN_POSITIVES} are needed"
        return DEFAULT_THRESHOLD, reason
    predicted = torch.zeros_like(rows.targets)
    for fold in rows.folds(EVIDENCE):
        predicted[fold] = rows.scores[fold] >= _shared(rows.select(~fold))
    before = micro_f1(rows.scores >= DEFAULT_THRESHOLD, rows.targets)
    if not micro_f1(predicted, rows.targets) > before:
        return DEFAULT_THRESHOLD, "no threshold raises the F1 on other rows"
    return _shared(rows), ""


def fit_per_label(rows: ScoredRows, shared: float) -> dict[int, float]:
    """Return the threshold with the largest F1 for each label that has enough evidence for one
    other than `shared`.

    There is enough if at least MIN_POSITIVES rows have the label and MIN_POSITIVES do not, and the
    label's F1 on rows on which the threshold was not fitted is larger than with `shared`.
    """
    positives = rows.targets.sum(0)
    enough = (positives >= MIN_POSITIVES) & (len(rows) - positives >= MIN_POSITIVES)
    folds = rows.folds(EVIDENCE)
    thresholds: dict[int, float] = {}
    for label in torch.nonzero(enough)[:, 0].tolist():
        scores, true = rows.scores[:, label].contiguous(), rows.targets[:, label]
        predicted = torch.zeros_like(true)
        for fold in folds:
            predicted[fold] = scores[fold] >= best_threshold(scores[~fold], true[~fold], shared)
        if micro_f1(predicted, true) > micro_f1(scores >= shared, true):
            thresholds[label] = best_threshold(scores, true, shared)
    return thresholds


def best_threshold(scores: Tensor, true: Tensor, default: float = DEFAULT_THRESHOLD) -> float:
    """Return the threshold with the largest F1 of scores [K], true labels bool [K].

    It is in the middle between two scores. Of equally good thresholds, the nearest to `default` is
    returned. If no label is true, `default` is returned.
    """
    order = scores.argsort(descending=True)
    scores, true = scores[order], true[order]
    correct = true.double().cumsum(0)
    if not len(scores) or not correct[-1]:
        return default
    predicted = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    f1 = 2 * correct / (predicted + correct[-1])
    following = torch.cat([scores[1:], scores.new_zeros(1)])
    f1[(scores == following) & (scores > 0)] = -1  # no threshold is between equal scores
    best = torch.nonzero(f1 == f1.max())[:, 0]
    middle = (scores[best] + following[best]) / 2
    middle = torch.where(middle > following[best], middle, scores[best])  # neighboring numbers
    return float(middle[(middle - default).abs().argmin()])


def micro_f1(predicted: Tensor, true: Tensor) -> float:
    """Return F1 over all values of two bool tensors of one shape; 0 if both have none."""
    total = int(predicted.sum() + true.sum())
    return 2 * int((predicted & true).sum()) / total if total else 0.0


def measure_labels(predicted: Tensor, true: Tensor) -> dict[str, float]:
    """Return micro and macro F1 of bool [N, C], as the task defines them."""
    totals = (predicted.sum(0) + true.sum(0)).double()  # [C]
    correct = (predicted & true).sum(0).double()
    defined = totals > 0
    macro = float((2 * correct / totals)[defined].mean()) if defined.any() else 0.0
    return {"micro_f1": micro_f1(predicted, true), "macro_f1": macro}


def _shared(rows: ScoredRows) -> float:
    return best_threshold(rows.scores.flatten(), rows.targets.flatten())
