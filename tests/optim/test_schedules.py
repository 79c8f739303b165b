"""The learning rate of every schedule, and its state."""

import pytest
import torch
from torch import nn

from pipeline import components
from pipeline.optim.learning_rates import LearningRates
from pipeline.training.settings import train_settings

EXPECTED = {
    "constant": ({}, [0.5, 1, 1, 1, 1]),
    "cosine": ({"min_lr_ratio": 0.2}, [0.5, 1, 0.6, 0.2, 0.2]),
    "linear": ({"min_lr_ratio": 0.2}, [0.5, 1, 0.6, 0.2, 0.2]),
    "plateau": ({}, [0.5, 1, 1, 1, 1]),
    "warmup_stable_decay": ({"decay_fraction": 0.25, "min_lr_ratio": 0.2}, [0.5, 1, 1, 0.2, 0.2]),
}
"""Keys of each schedule, and its rates at half of the warm-up, its end, half of the rest, the end
and beyond."""


@pytest.mark.parametrize("name", EXPECTED)
def test_rates_during_a_run(name: str) -> None:
    values, expected = EXPECTED[name]
    settings = train_settings(schedule=name, lr=1.0, warmup=0.2, **values)
    rates = LearningRates(settings)
    found = [rates.learning_rate(progress) for progress in (0.1, 0.2, 0.6, 1.0, 1.1)]
    assert found == pytest.approx(expected)


def test_every_built_in_schedule_is_tested() -> None:
    assert components.names("schedule") == list(EXPECTED)


def test_plateau_reduces_the_rate_as_torch_does() -> None:
    values = {"plateau_factor": 0.5, "plateau_patience": 1, "min_lr_ratio": 0.2}
    settings = train_settings(schedule="plateau", lr=1.0, warmup=0.0, **values)
    rates = LearningRates(settings)
    sgd = torch.optim.SGD(nn.Linear(1, 1).parameters(), lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(sgd, factor=0.5, patience=1, min_lr=0.2)
    for loss in (3.0, 2.0, 2.5, 2.0, 1.99999, 1.9, 2, 2, 2, 2, 2, 2, 2):
        rates.schedule.evaluated(loss)
        reference.step(loss)
        assert rates.learning_rate(0.5) == sgd.param_groups[0]["lr"]
    restored = LearningRates(settings)
    restored.schedule.load_state_dict(rates.schedule.state_dict())
    for _ in range(3):
        rates.schedule.evaluated(0.5)
        restored.schedule.evaluated(0.5)
        assert restored.learning_rate(0.5) == rates.learning_rate(0.5)
