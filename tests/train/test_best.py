"""The choice of the best evaluation."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.run.checkpoint import TrainingState
from pipeline.tasks.base.task import Evaluation
from pipeline.train.best import BestMetric


@pytest.mark.parametrize(
    "lower_is_better, evaluations, best, stale",
    [
        (False, [(0.1, 3.0), (0.3, 2.0), (0.2, 1.0)], 2, 1),
        (True, [(9.0, 3.0), (7.0, 2.0), (8.0, 1.0)], 2, 1),
        (False, [(0.0, 3.0), (0.0, 2.0), (0.0, 2.5)], 2, 1),  # among equal values the lowest loss
        (True, [(5.0, 3.0), (5.0, 3.0), (5.0, 2.0)], 3, 0),
        (False, [(math.nan, 3.0), (-0.5, 2.0), (math.nan, 1.0)], 2, 1),  # not a number is worst
    ],
)
def test_best_evaluation_is_kept_and_later_ones_are_counted(
    lower_is_better: bool, evaluations: list[tuple[float, float]], best: int, stale: int
) -> None:
    """`evaluations` are (metric, loss) of the steps 1, 2, 3; `best` is the expected best step."""
    task: Any = SimpleNamespace(best_metric="metric", lower_is_better=lower_is_better, reported={})
    chooser, state = BestMetric(task, []), TrainingState()
    for metric, loss in evaluations:
        state.step += 1
        chooser.update(state, Evaluation({"metric": metric, "loss": loss}))
    assert (state.best_step, state.stale) == (best, stale)
    assert state.best == evaluations[best - 1][0]


def test_the_evaluation_at_the_end_counts_only_if_it_is_the_best() -> None:
    task: Any = SimpleNamespace(best_metric="metric", lower_is_better=False, reported={})
    chooser, state = BestMetric(task, []), TrainingState(step=1)
    assert chooser.improve(state, Evaluation({"metric": 0.5, "loss": 1.0}))
    state.step, state.stale = 2, 3
    assert not chooser.improve(state, Evaluation({"metric": 0.4, "loss": 1.0}))
    assert (state.best_step, state.stale) == (1, 3)
    assert chooser.improve(state, Evaluation({"metric": 0.6, "loss": 1.0}))
    assert (state.best, state.best_step, state.stale) == (0.6, 2, 0)
