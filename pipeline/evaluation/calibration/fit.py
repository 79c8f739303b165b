"""Fits the calibration that `task.calibrate` selects, and measures it by cross-fitting.

Shapes: N rows, C labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.evaluation.calibration.scored_rows import CROSS_FITTING, ScoredRows
from pipeline.evaluation.calibration.temperature import fit_temperature, measure_probabilities
from pipeline.evaluation.calibration.thresholds import fit_per_label, fit_shared, measure_labels
from pipeline.tasks.base.calibration import NO_CALIBRATION, Calibration, with_temperature

TEMPERATURE, SHARED, PER_LABEL = "temperature", "shared", "per_label"
"""Values of `task.calibrate`."""


@dataclass(frozen=True)
class Fit:
    """A calibration and its effect."""

    calibration: Calibration
    reason: str
    """Why the calibration changes nothing; empty if it changes something."""
    before: Mapping[str, float]
    """Metrics of all rows without a calibration."""
    after: Mapping[str, float]
    """The same metrics by cross-fitting: the calibration of each row is fitted, by the same
    procedure, on the rows of the other folds."""


def fit(method: str, rows: ScoredRows, labels: Sequence[str]) -> Fit:
    """Fit a calibration on all rows; `method` is a value of `task.calibrate`."""
    calibration, reason = _fit(method, rows, labels)
    read = [read_scores(method, rows.scores, NO_CALIBRATION, labels)]
    read.append(torch.zeros_like(read[0]))
    for fold in rows.folds(CROSS_FITTING):
        fitted, _ = _fit(method, rows.select(~fold), labels)
        read[1][fold] = read_scores(method, rows.scores[fold], fitted, labels)
    before, after = (_measure(method, values, rows.targets) for values in read)
    return Fit(calibration, reason, before, after)


def measure(
    method: str, rows: ScoredRows, calibration: Calibration, labels: Sequence[str]
) -> dict[str, float]:
    """Return the metrics of rows with a calibration."""
    return _measure(method, read_scores(method, rows.scores, calibration, labels), rows.targets)


def read_scores(
    method: str, scores: Tensor, calibration: Calibration, labels: Sequence[str]
) -> Tensor:
    """Return the calibrated probabilities [N, C] or, for thresholds, the predicted labels as bool
    [N, C]."""
    if method == TEMPERATURE:
        return with_temperature(scores, calibration.temperature)
    return scores >= calibration.thresholds(labels)


def _fit(method: str, rows: ScoredRows, labels: Sequence[str]) -> tuple[Calibration, str]:
    """Return a calibration, and the reason if it changes nothing."""
    if method == TEMPERATURE:
        temperature, reason = fit_temperature(rows)
        return Calibration(temperature=temperature), reason
    shared, reason = fit_shared(rows)
    if method == SHARED:
        return Calibration(threshold=shared), reason
    own = fit_per_label(rows, shared)
    by_name = {labels[label]: threshold for label, threshold in own.items()}
    return Calibration(threshold=shared, label_thresholds=by_name), "" if by_name else reason


def _measure(method: str, values: Tensor, targets: Tensor) -> dict[str, float]:
    if method == TEMPERATURE:
        return measure_probabilities(values, targets)
    return measure_labels(values, targets)
