"""Temperature and thresholds, applied to outputs."""

import pytest
import torch
from torchmetrics.functional.classification import multilabel_f1_score

from pipeline.tasks.base.calibration import (
    NO_CALIBRATION,
    Calibration,
    centered,
    with_temperature,
)

LABELS = ["a", "b", "c"]


def scores() -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)
    return torch.rand(200, 3, generator=draw, dtype=torch.float64)


def test_labels_without_a_threshold_of_their_own_have_the_shared_one() -> None:
    calibration = Calibration(threshold=0.3, label_thresholds={"b": 0.1})
    assert calibration.thresholds(LABELS).tolist() == [0.3, 0.1, 0.3]
    assert NO_CALIBRATION.thresholds(LABELS).tolist() == [0.5] * 3


@pytest.mark.parametrize("values", [[0.2, 0.5, 0.93], [0.0, 1.0, 0.5]])
def test_centered_scores_pass_one_half_where_the_scores_pass_the_threshold(
    values: list[float],
) -> None:
    thresholds = torch.tensor(values, dtype=torch.float64)
    found = scores()
    found[0], found[1], found[2] = 0.0, 1.0, thresholds
    rescaled = centered(found, thresholds)
    assert torch.equal(rescaled >= 0.5, found >= thresholds)
    assert ((rescaled >= 0) & (rescaled <= 1)).all()
    if 0 not in values:
        assert torch.equal(rescaled[3:].argsort(0), found[3:].argsort(0))


def test_metrics_of_centered_scores_are_those_of_the_predicted_labels() -> None:
    thresholds = torch.tensor([0.2, 0.6, 0.9], dtype=torch.float64)
    true = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) < 0.4
    predicted = (scores() >= thresholds).double()
    assert multilabel_f1_score(centered(scores(), thresholds), true.long(), 3) == pytest.approx(
        float(multilabel_f1_score(predicted, true.long(), 3))
    )


def test_values_that_change_nothing_return_the_same_tensor() -> None:
    found = scores()
    assert centered(found, NO_CALIBRATION.thresholds(LABELS)) is found
    assert with_temperature(found, NO_CALIBRATION.temperature) is found
