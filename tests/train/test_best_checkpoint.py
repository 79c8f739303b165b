"""Which evaluation is the best."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.run.checkpoint import TrainingState
from pipeline.tasks.task import Evaluation
from pipeline.train.trainer import Trainer


@pytest.mark.parametrize(
    "lower_is_better, given, best, stale",
    [
        (False, [(0.1, 3.0), (0.3, 2.0), (0.2, 1.0)], 2, 1),
        (True, [(9.0, 3.0), (7.0, 2.0), (8.0, 1.0)], 2, 1),
        (False, [(0.0, 3.0), (0.0, 2.0), (0.0, 2.5)], 2, 1),  # of equal ones that of less loss
        (True, [(5.0, 3.0), (5.0, 3.0), (5.0, 2.0)], 3, 0),
    ],
)
def test_the_best_is_kept_and_what_came_since_is_counted(
    lower_is_better: bool, given: list[tuple[float, float]], best: int, stale: int
) -> None:
    task = SimpleNamespace(best_metric="figure", lower_is_better=lower_is_better)
    trainer: Any = SimpleNamespace(state=TrainingState(), task=task)
    for figure, loss in given:
        trainer.state.step += 1
        Trainer._judge(trainer, Evaluation({"figure": figure, "loss": loss}))
    assert (trainer.state.best_step, trainer.state.stale) == (best, stale)
    assert trainer.state.best == given[best - 1][0]
