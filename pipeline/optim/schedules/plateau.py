"""Reduction of the learning rate when the validation loss stops improving."""

from typing import Any

from pipeline.optim.base import Schedule
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting

THRESHOLD = 1e-4
"""Relative improvement of the loss that counts, as in torch.optim.lr_scheduler."""


class Plateau(Schedule):
    """The rate falls by a factor after evaluations without a better loss.

    The rule is that of torch.optim.lr_scheduler.ReduceLROnPlateau (mode min, threshold 1e-4).
    """

    class Settings(OptimizerSettings):
        plateau_factor: float = setting(0.1, "factor of each reduction", gt=0, lt=1)
        plateau_patience: int = setting(
            2, "evaluations without a better loss that are tolerated", ge=0
        )
        min_lr_ratio: float = setting(0.0, "lowest learning rate, relative to the peak", ge=0, le=1)

    settings: Settings

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._factor, self._best, self._bad = 1.0, float("inf"), 0

    def factor(self, progress: float) -> float:
        return self._factor

    def evaluated(self, loss: float) -> None:
        if loss < self._best * (1 - THRESHOLD):
            self._best, self._bad = loss, 0
        else:
            self._bad += 1
        if self._bad > self.settings.plateau_patience:
            reduced = self._factor * self.settings.plateau_factor
            self._factor, self._bad = max(reduced, self.settings.min_lr_ratio), 0

    def state_dict(self) -> dict[str, Any]:
        best = None if self._best == float("inf") else self._best
        return {"factor": self._factor, "best": best, "bad": self._bad}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._best = float("inf") if state["best"] is None else state["best"]
        self._factor, self._bad = state["factor"], state["bad"]
