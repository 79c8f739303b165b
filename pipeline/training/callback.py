"""Base class of the callbacks that `train.callbacks` chooses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from pipeline.components import Component
from pipeline.optim.optimizer import Optimizer
from pipeline.tasks.base.task import Evaluation
from pipeline.training.settings import TrainSettings


class Run(Protocol):
    """The run that a callback belongs to."""

    model: nn.Module
    """The model that is trained, without DistributedDataParallel."""
    optimizer: Optimizer

    @property
    def step(self) -> int:
        """Number of the last update, or of the one that is in progress; the first is 1."""

    @property
    def epoch(self) -> float:
        """Passes through the corpus so far."""

    @property
    def rank(self) -> int:
        """Number of this process; 0 is the first."""

    @property
    def first(self) -> bool:
        """Whether this is rank 0."""

    def log(self, metrics: Mapping[str, float]) -> None:
        """Log metrics at this step to `metrics.jsonl` and the trackers; ignored on other ranks."""

    def stop(self, reason: str) -> None:
        """End training on all ranks, also if only this rank calls it.

        In `evaluated` training ends at once, elsewhere after one or two more updates. The run is
        then finished, as if it had reached its last epoch.
        """


class Callback(Component):
    """Code that runs at some moments of training, on every rank, at the same updates.

    An exception ends the run with one line that names the callback.
    """

    Settings: ClassVar[type[TrainSettings]] = TrainSettings
    """The callback's keys in the section `train`."""

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings

    def before_step(self, run: Run, clip_factor: Tensor) -> None:
        """Runs when all gradients of an update are complete, before the optimizer's step.

        They are averaged over all ranks and clipped; `clip_factor` (a scalar on the device) is the
        factor of clipping, 1 if they are not clipped. The optimizer's step then deletes them.
        """

    def updated(self, run: Run, step: int, metrics: Mapping[str, float]) -> None:
        """Runs after each update. `metrics` are the task's, on all ranks' rows of the update.

        They are empty if the update had no valid rows. On a GPU, a run with such a callback waits
        for the device after each update.
        """

    def evaluated(self, run: Run, step: int, evaluation: Evaluation) -> None:
        """Runs after each evaluation that is due by `train.evaluate_every` or ends an epoch."""

    def saved(self, run: Run, step: int, path: Path) -> None:
        """Runs after a checkpoint is saved at `path`; rank 0 writes it, others do not wait."""

    def ended(self, run: Run, reason: str) -> None:
        """Runs at the end: epochs, max_steps, patience, signal, or the reason of `Run.stop`."""

    def state_dict(self) -> dict[str, Any]:
        """Return the callback's state, as JSON. That of rank 0 is saved in each checkpoint."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, on every rank."""
