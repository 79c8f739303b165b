"""The temperature: its optimum, the expected calibration error, the rule for evidence."""

import pytest
import torch
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from pipeline.evaluation.calibration.temperature import (
    MIN_ROWS,
    best_temperature,
    calibration_error,
    fit_temperature,
    measure_probabilities,
)
from pipeline.tasks.base.calibration import with_temperature
from tests.evaluation.calibration.rows import overconfident, rows_of


def mean_loss(scores: Tensor, targets: Tensor, temperature: float) -> float:
    """Return the log loss by scikit-learn."""
    scaled = with_temperature(scores, temperature).numpy()
    return float(log_loss(targets.numpy(), scaled, labels=range(scores.shape[1])))


@pytest.mark.parametrize("labels, temperature", [(2, 1.7), (5, 0.6), (40, 3.0)])
def test_the_temperature_minimizes_the_log_loss(labels: int, temperature: float) -> None:
    rows = overconfident(400, labels, temperature)
    found = best_temperature(rows.scores, rows.targets)
    reference = minimize_scalar(
        lambda t: mean_loss(rows.scores, rows.targets, t), bounds=(0.05, 20), method="bounded",
        options={"xatol": 1e-9},
    )  # fmt: skip
    assert found == pytest.approx(reference.x, rel=1e-5)
    assert found == pytest.approx(temperature, rel=0.3)


def test_limits_of_the_temperature() -> None:
    """Rows that are all right, or whose labels do not depend on the scores."""
    rows = overconfident(300, 3, 1.0)
    assert best_temperature(rows.scores, rows.scores.argmax(-1)) == pytest.approx(0.05, rel=1e-6)
    worst = rows.scores.argmin(-1)
    assert best_temperature(rows.scores, worst) == pytest.approx(20, rel=1e-6)
    for targets in (rows.scores.argmax(-1), worst):
        assert fit_temperature(rows_of(rows.scores, targets)) == (
            1.0,
            "best temperature not between 0.05 and 20",
        )


def test_probabilities_of_zero_keep_the_loss_finite() -> None:
    scores = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    targets = torch.tensor([0, 1, 1])
    assert 0.05 < best_temperature(scores, targets) <= 20.01
    assert measure_probabilities(scores, targets)["loss"] < 300


@pytest.mark.parametrize("labels", [2, 7])
def test_the_calibration_error_is_that_of_torchmetrics(labels: int) -> None:
    rows = overconfident(500, labels, 2.0)
    expected = multiclass_calibration_error(rows.scores, rows.targets, labels, n_bins=15)
    assert calibration_error(rows.scores, rows.targets) == pytest.approx(float(expected), abs=1e-6)


def test_little_evidence_leaves_the_probabilities_as_they_are() -> None:
    few = overconfident(MIN_ROWS - 1, 2, 5.0)
    assert fit_temperature(few) == (1.0, "only 99 rows, at least 100 are needed")
    calibrated = [overconfident(300, 2, 1.0, seed) for seed in range(20)]
    found = [fit_temperature(rows)[0] for rows in calibrated]
    assert sum(temperature == 1 for temperature in found) >= 17
    clear, reason = fit_temperature(overconfident(300, 2, 3.0))
    assert (clear > 2, reason) == (True, "")


def test_a_temperature_keeps_the_order_of_the_labels() -> None:
    rows = overconfident(200, 6, 1.0)
    for temperature in (0.3, 1.0, 7.0):
        scaled = with_temperature(rows.scores, temperature)
        assert torch.equal(scaled.argsort(-1), rows.scores.argsort(-1))
        assert torch.allclose(scaled.sum(-1), torch.ones(200, dtype=torch.float64))
    logits = rows.scores.log()
    assert torch.allclose(with_temperature(rows.scores, 7.0), (logits / 7).softmax(-1))
    assert with_temperature(rows.scores, 1.0) is rows.scores
