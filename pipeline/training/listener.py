"""The interface through which the training loop reports to the tracking on rank 0."""

from collections.abc import Callable, Mapping
from typing import Protocol

from pipeline.tasks.base.sample import Sample
from pipeline.tasks.base.task import Evaluation, Mistake


class Listener(Protocol):
    """Receives the events of a run, on rank 0."""

    def update(self, step: int, rows: int, metrics: Mapping[str, float]) -> None:
        """After each update: rows that the run has consumed, and the metrics of this update."""

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Every `train.log_every` updates and after each evaluation."""

    def evaluated(
        self,
        step: int,
        evaluation: Evaluation,
        mistakes: list[Mistake],
        samples: Callable[[], list[Sample]],
        *,
        best_metric: str = "",
        is_best: bool = False,
    ) -> None:
        """After each evaluation. `samples` runs the model, which takes time.

        `best_metric` chooses the best checkpoint; `is_best` says whether this is the best so far.
        """

    def saving(self) -> None:
        """Before a checkpoint is written: logged metrics must now survive a crash."""
