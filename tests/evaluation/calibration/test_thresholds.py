"""Thresholds: the optimum against scikit-learn, and the rule for evidence."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from pipeline.evaluation.calibration.thresholds import (
    MIN_POSITIVES,
    best_threshold,
    fit_per_label,
    fit_shared,
    measure_labels,
    micro_f1,
)
from tests.evaluation.calibration.rows import rows_of, several_labels


def best_f1(scores: Tensor, true: Tensor) -> float:
    """Return the largest F1 by scikit-learn over thresholds at each score."""
    return max(
        float(f1_score(true, scores >= threshold, zero_division=0.0)) for threshold in scores
    )


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_maximizes_f1(seed: int, ties: bool) -> None:
    rows = several_labels(60, [0.2], seed, shift=0)
    scores, true = rows.scores[:, 0], rows.targets[:, 0]
    if ties:
        scores = (8 * scores).round() / 8
    threshold = best_threshold(scores, true)
    assert f1_score(true, scores >= threshold) == pytest.approx(best_f1(scores, true))
    assert 0 < threshold < 1
    assert threshold not in scores.tolist()


def test_of_equally_good_thresholds_the_nearest_to_the_default_is_chosen() -> None:
    scores = torch.tensor([0.9, 0.7, 0.3, 0.1], dtype=torch.float64)
    true = torch.tensor([True, False, False, True])  # F1 is 2/3 for 1 and for 4 rows
    assert best_threshold(scores, true, 0.5) == pytest.approx(0.8)
    assert best_threshold(scores, true, 0.1) == pytest.approx(0.05)
    assert best_threshold(scores, torch.zeros(4, dtype=torch.bool), 0.4) == 0.4
    assert best_threshold(scores[:0], true[:0], 0.4) == 0.4


def test_a_threshold_between_neighboring_numbers_separates_them() -> None:
    low = 0.3
    high = float(np.nextafter(low, 1))
    scores = torch.tensor([high, low], dtype=torch.float64)
    threshold = best_threshold(scores, torch.tensor([True, False]))
    assert (scores >= threshold).tolist() == [True, False]


def test_measures_match_scikit_learn() -> None:
    rows = several_labels(200, [0.3, 0.1, 0.0], shift=0)
    predicted = rows.scores >= 0.4
    predicted[:, 2] = False  # neither true nor predicted: no part of macro F1
    assert measure_labels(predicted, rows.targets) == pytest.approx(
        {
            "micro_f1": f1_score(rows.targets, predicted, average="micro"),
            "macro_f1": f1_score(rows.targets[:, :2], predicted[:, :2], average="macro"),
        }
    )
    assert micro_f1(torch.zeros(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)) == 0


def test_labels_without_enough_evidence_have_the_shared_threshold() -> None:
    """The third label has too few rows, the last one lacks in too few."""
    rows = several_labels(1000, [0.4, 0.2, 0.01, 0.995])
    assert int(rows.targets[:, 2].sum()) < MIN_POSITIVES <= int(rows.targets[:, 1].sum())
    shared, reason = fit_shared(rows)
    assert (shared < 0.3, reason) == (True, "")
    far = fit_per_label(rows, 0.9)
    assert set(far) == {0, 1}
    assert fit_per_label(rows, 0.9)[0] == best_threshold(rows.scores[:, 0], rows.targets[:, 0], 0.9)


def test_thresholds_without_a_gain_on_other_rows_are_not_used() -> None:
    """Scores whose best threshold is 0.5: what the rows suggest is noise."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.rand(300, 4, generator=draw, dtype=torch.float64)
    rows = rows_of(scores, scores >= 0.5)
    assert fit_shared(rows) == (0.5, "no threshold raises the F1 on other rows")
    assert fit_per_label(rows, 0.5) == {}
    few = rows_of(scores[:5], scores[:5] >= 0.5)
    positives = int(few.targets.sum())
    assert fit_shared(few) == (0.5, f"only {positives} true labels, at least 20 are needed")
