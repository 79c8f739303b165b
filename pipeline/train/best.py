"""The metric that chooses the best checkpoint."""

import math
from collections.abc import Sequence

from pipeline.errors import ConfigError
from pipeline.run.checkpoint import TrainingState
from pipeline.tasks.base.metric import Metric
from pipeline.tasks.base.task import Evaluation, Task


class BestMetric:
    """Compares evaluations by one metric: `train.best_metric`, or else the task's.

    Raises ConfigError if the name is not that of a metric that the run evaluates.
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

    def is_better(self, state: TrainingState, evaluation: Evaluation) -> bool:
        """Return whether an evaluation is better than the best one so far."""
        now = (self._score(evaluation.metrics[self.name]), -evaluation.metrics["loss"])
        return state.best is None or now > (self._score(state.best), -state.best_loss)

    def _score(self, value: float) -> float:
        """Return a number that is higher for a better value."""
        return -math.inf if math.isnan(value) else self._sign * value
