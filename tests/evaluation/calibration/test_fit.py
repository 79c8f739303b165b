"""Calibrations of each method: cross-fitting, and the same values for the same rows."""

import pytest
import torch

from pipeline.evaluation.calibration.fit import fit, measure, read_scores
from pipeline.evaluation.calibration.scored_rows import CROSS_FITTING, EVIDENCE, ScoredRows
from pipeline.evaluation.calibration.temperature import measure_probabilities
from pipeline.evaluation.calibration.thresholds import measure_labels
from pipeline.tasks.base.calibration import NO_CALIBRATION
from tests.evaluation.calibration.rows import overconfident, rows_of, several_labels

LABELS = ["a", "b", "c", "d"]


def rows_for(method: str) -> ScoredRows:
    if method == "temperature":
        return overconfident(600, 4, 3.0)
    return several_labels(1000, [0.4, 0.3, 0.2, 0.01])


@pytest.mark.parametrize("method", ["temperature", "shared", "per_label"])
def test_cross_fitting_reads_each_row_without_using_it(method: str) -> None:
    """The metrics after are those of fits on the rows of the other folds alone."""
    rows = rows_for(method)
    found = fit(method, rows, LABELS)
    parts, targets = [], []
    for fold in rows.folds(CROSS_FITTING):
        alone = fit(method, rows.select(~fold), LABELS).calibration
        parts.append(read_scores(method, rows.scores[fold], alone, LABELS))
        targets.append(rows.targets[fold])
    measured = measure_probabilities if method == "temperature" else measure_labels
    assert found.after == pytest.approx(measured(torch.cat(parts), torch.cat(targets)))
    assert found.before == measure(method, rows, NO_CALIBRATION, LABELS)
    own = measure(method, rows, found.calibration, LABELS)
    assert own != pytest.approx(found.after)
    assert found.reason == ""


def test_cross_fitting_shows_no_gain_where_labels_are_noise() -> None:
    """Labels that the scores do not explain: thresholds fitted on the same rows seem to help."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(150, 30, generator=draw, dtype=torch.float64)
    rows = rows_of(scores, torch.rand(150, 30, generator=draw) < 0.2)
    found = fit("per_label", rows, [str(n) for n in range(30)])
    all_positive = measure_labels(torch.ones(150, 30, dtype=torch.bool), rows.targets)
    own = measure("per_label", rows, found.calibration, [str(n) for n in range(30)])
    assert found.after["macro_f1"] < own["macro_f1"]
    assert found.after["macro_f1"] <= all_positive["macro_f1"] + 0.01


def test_folds_depend_on_the_documents_and_not_on_the_other_rows() -> None:
    rows = rows_for("temperature")
    some = torch.arange(0, 600, 3)
    for purpose in (CROSS_FITTING, EVIDENCE):
        folds = rows.folds(purpose)
        assert torch.stack(folds).sum(0).tolist() == [1] * 600
        assert all(80 < fold.sum() < 160 for fold in folds)
        for fold, part in zip(folds, rows.select(some).folds(purpose), strict=True):
            assert torch.equal(fold[some], part)
    both = [
        int((first & second).sum())
        for first in rows.folds(CROSS_FITTING)
        for second in rows.folds(EVIDENCE)
    ]
    assert min(both) > 8  # 24 on average


@pytest.mark.parametrize("method", ["temperature", "shared", "per_label"])
def test_calibration_improves_new_rows(method: str) -> None:
    rows = rows_for(method)
    calibration = fit(method, rows, LABELS).calibration
    if method == "temperature":
        new = overconfident(2000, 4, 3.0, seed=1)
        metric, sign = "calibration_error", -1
    else:
        new = several_labels(2000, [0.4, 0.3, 0.2, 0.01], seed=1)
        metric, sign = "macro_f1", 1
    before = measure(method, new, NO_CALIBRATION, LABELS)[metric]
    after = measure(method, new, calibration, LABELS)[metric]
    assert sign * (after - before) > 0.05


def test_a_fit_without_evidence_changes_nothing() -> None:
    few = overconfident(30, 4, 3.0)
    found = fit("temperature", few, LABELS)
    assert found.calibration == NO_CALIBRATION
    assert found.reason == "only 30 rows, at least 100 are needed"
    assert found.after == found.before
    rare = several_labels(1000, [0.001] * 4)
    own = fit("per_label", rare, LABELS)
    assert own.calibration == NO_CALIBRATION
    assert own.reason.endswith("true labels, at least 20 are needed")
