"""The choice of the best evaluation."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline import config
from pipeline.run.checkpoint import TrainingState
from pipeline.tasks.base.task import Evaluation
from pipeline.training import session
from pipeline.training.best import BestMetric, undo_end
from tests.helpers.corpora import CASES, small_run_overrides


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


def test_the_metrics_of_a_run_have_each_best_value_once(tmp_path: Path) -> None:
    case = CASES["classification"]
    case.write(tmp_path / case.file, case.rows)
    small = small_run_overrides(tmp_path, "classification")
    overrides = [*small, "train.epochs=4", "train.max_steps=8", "train.evaluate_every=1",
                 "train.lr=0.05", "train.precision=fp32", f"run.dir={tmp_path}/run"]  # fmt: skip
    session.train(config.load(None, overrides))
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    evaluations = [line for line in lines if "val/accuracy" in line]
    best: list[tuple[float, float]] = []
    for line in evaluations:
        now = (line["val/accuracy"], -line["val/loss"])
        is_best = not best or now > best[-1]
        assert line.get("best/accuracy") == (now[0] if is_best else None)
        best += [now] * is_best
    assert 1 < len(best) < len(evaluations)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["best"] == best[-1][0]


def test_the_best_evaluation_at_the_end_is_undone_when_a_run_is_extended() -> None:
    task: Any = SimpleNamespace(best_metric="metric", lower_is_better=False, reported={})
    chooser, state = BestMetric(task, []), TrainingState(step=1)
    chooser.update(state, Evaluation({"metric": 0.5, "loss": 1.0}))
    state.step, state.stale = 2, 3
    assert not chooser.improve_at_end(state, Evaluation({"metric": 0.4, "loss": 1.0}))
    assert undo_end(state) == ""
    assert chooser.improve_at_end(state, Evaluation({"metric": 0.6, "loss": 0.7}))
    assert (state.best, state.best_loss, state.best_step, state.stale) == (0.6, 0.7, 2, 0)
    assert state.kept_steps == {1, 2}
    assert undo_end(state) == (
        "step 2 was evaluated only because the run ended there; step 1 is the best again, as if "
        "the run had not ended"
    )
    assert (state.best, state.best_loss, state.best_step, state.stale) == (0.5, 1.0, 1, 3)
    assert (state.before_end, state.kept_steps) == (None, {1})


def test_the_only_evaluation_is_undone_too() -> None:
    task: Any = SimpleNamespace(best_metric="metric", lower_is_better=False, reported={})
    state = TrainingState(step=3)
    assert BestMetric(task, []).improve_at_end(state, Evaluation({"metric": 0.5, "loss": 1.0}))
    assert "; none is the best, as if" in undo_end(state)
    assert (state.best, state.best_step) == (None, 0)
