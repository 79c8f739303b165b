"""Fits the temperature of probabilities (Guo et al. 2017, "On Calibration of Modern Neural
Networks").

Shapes: N rows, C labels.
"""

import math

import torch
from torch import Tensor

from pipeline.evaluation.calibration.scored_rows import EVIDENCE, ScoredRows
from pipeline.tasks.base.calibration import TINY, with_temperature

MIN_ROWS = 100
MIN_ERRORS = 2
"""The mean decrease in log loss counts as evidence if it exceeds this number of standard errors."""
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
BINS = 15
"""Bins of the expected calibration error, as in Guo et al. and torchmetrics."""


def fit_temperature(rows: ScoredRows) -> tuple[float, str]:
    """Return the temperature with the smallest log loss, and an empty string; or 1 and the reason
    if there is not enough evidence for another one.

    There is enough if there are MIN_ROWS rows, the temperature is between the limits, and the log
    loss of rows that it was not fitted on decreases by more than MIN_ERRORS standard errors.
    """
    if len(rows) < MIN_ROWS:
        return 1.0, f"only {len(rows):,} rows, at least {MIN_ROWS} are needed"
    temperature = best_temperature(rows.scores, rows.targets)
    if not MIN_TEMPERATURE < temperature < MAX_TEMPERATURE:
        return 1.0, f"best temperature not between {MIN_TEMPERATURE} and {MAX_TEMPERATURE:.0f}"
    gains = log_losses(rows.scores, rows.targets)
    for fold in rows.folds(EVIDENCE):
        value = best_temperature(rows.scores[~fold], rows.targets[~fold])
        gains[fold] -= log_losses(with_temperature(rows.scores[fold], value), rows.targets[fold])
    if not gains.mean() > MIN_ERRORS * gains.std() / math.sqrt(len(rows)):
        return 1.0, "no temperature clearly lowers the loss on other rows"
    return temperature, ""


def best_temperature(scores: Tensor, targets: Tensor) -> float:
    """Return the temperature with the smallest log loss of scores [N, C], true labels [N], rounded
    to nine digits.

    The loss is convex in 1 / temperature: Newton's method, inside a bracket that shrinks.
    """
    logits = scores.clamp_min(TINY).log()
    logits -= logits.max(-1, keepdim=True).values
    true_mean = logits.gather(-1, targets[:, None]).mean()
    low, high = 1 / MAX_TEMPERATURE, 1 / MIN_TEMPERATURE
    inverse = 1.0
    for _ in range(60):
        probabilities = (logits * inverse).softmax(-1)
        means = (probabilities * logits).sum(-1)  # [N]
        slope = float(means.mean() - true_mean)
        low, high = (inverse, high) if slope < 0 else (low, inverse)
        curvature = float(((probabilities * logits**2).sum(-1) - means**2).mean())
        step = inverse - slope / curvature if curvature > 0 else math.nan
        following = step if low < step < high else (low + high) / 2
        if abs(following - inverse) <= 1e-12 * inverse:
            break
        inverse = following
    return round(1 / inverse, 9)


def log_losses(scores: Tensor, targets: Tensor) -> Tensor:
    """Return the negative log probability of the true label of each row [N]."""
    return -scores.gather(-1, targets[:, None])[:, 0].clamp_min(TINY).log()


def calibration_error(scores: Tensor, targets: Tensor) -> float:
    """Return the expected calibration error of the most probable label: the mean difference
    between its probability and its accuracy, in BINS bins of equal width."""
    confidence, predicted = scores.max(-1)
    correct = (predicted == targets).double()
    bins = (confidence * BINS).ceil().long().clamp(1, BINS) - 1
    differences = torch.zeros(BINS, dtype=torch.float64).index_add_(0, bins, confidence - correct)
    return float(differences.abs().sum() / len(targets))


def measure_probabilities(scores: Tensor, targets: Tensor) -> dict[str, float]:
    """Return the metrics that a temperature changes."""
    return {
        "loss": float(log_losses(scores, targets).mean()),
        "calibration_error": calibration_error(scores, targets),
    }
