"""The metric that chooses the best checkpoint."""

import math
from collections.abc import Sequence

from pipeline.errors import ConfigError
from pipeline.run.checkpoint import TrainingState
from pipeline.tasks.base.metric import Metric
from pipeline.tasks.base.task import Evaluation, Task

BEST_VALUES = ("best", "best_loss", "best_step", "stale")
"""Counters of `TrainingState` that evaluations change."""


class BestMetric:
    """Compares evaluations by one metric: `train.best_metric`, or else the task's.

    Raises ConfigError if the run does not evaluate a metric of this name.
    """

    def __init__(self, task: Task, metrics: Sequence[Metric], name: str = "") -> None:
        known = {
            **task.reported,
            **{metric.name: not metric.lower_is_better for metric in metrics},
            task.best_metric: not task.lower_is_better,
        }
        self.name = name or task.best_metric
        if self.name not in known:
            raise ConfigError(
                f"train.best_metric={name}: is not evaluated; set one of "
                f"{', '.join(sorted(known))}, or add it to task.metrics"
            )
        self._sign = 1 if known[self.name] else -1

    def update(self, state: TrainingState, evaluation: Evaluation) -> None:
        """Compare an evaluation with the best one so far; count it if it is not better."""
        if not self.improve(state, evaluation):
            state.stale += 1

    def improve(self, state: TrainingState, evaluation: Evaluation) -> bool:
        """Make an evaluation the best one if it is better; return whether it is.

        Among equal values the lower loss is better: BLEU is 0 until four words in a row are right.
        A value that is not a number, such as the correlation with a constant, is the worst.
        """
        if not self.is_better(state, evaluation):
            return False
        state.best, state.best_loss = evaluation.metrics[self.name], evaluation.metrics["loss"]
        state.best_step, state.stale = state.step, 0
        return True

    def improve_at_end(self, state: TrainingState, evaluation: Evaluation) -> bool:
        """Like `improve`, for an evaluation that was due only because the run ended.

        The previous values are kept in `before_end`, so that an extended run can restore them.
        """
        before = {name: getattr(state, name) for name in BEST_VALUES}
        if not self.improve(state, evaluation):
            return False
        state.before_end = before
        return True

    def is_better(self, state: TrainingState, evaluation: Evaluation) -> bool:
        """Return whether an evaluation is better than the best one so far."""
        now = (self._score(evaluation.metrics[self.name]), -evaluation.metrics["loss"])
        return state.best is None or now > (self._score(state.best), -state.best_loss)

    def _score(self, value: float) -> float:
        """Return a number that is higher for a better value."""
        return -math.inf if math.isnan(value) else self._sign * value


def undo_end(state: TrainingState) -> str:
    """Undo the best evaluation if it was due only because the run ended; the run is now extended.

    The run then continues exactly as if it had not ended there: with the same best checkpoint, and
    the same count for `train.patience`. Return a line for the log, empty if nothing is undone.
    """
    if state.before_end is None:
        return ""
    end = state.best_step
    for name, value in state.before_end.items():
        setattr(state, name, value)
    state.before_end = None
    best = f"step {state.best_step} is the best again" if state.best_step else "none is the best"
    return (
        f"step {end} was evaluated only because the run ended there; {best}, as if the run had not "
        f"ended"
    )
