"""Learning rate and frozen flag of each parameter group, as functions of the rows consumed."""

import math
from collections.abc import Iterable
from typing import Any

from pipeline import components
from pipeline.errors import TrainingError
from pipeline.optim.base import Schedule
from pipeline.optim.settings import OptimizerSettings


class LearningRates:
    """Linear warm-up, then the schedule that `train.schedule` chooses."""

    def __init__(self, settings: OptimizerSettings) -> None:
        self.settings = settings
        self.schedule: Schedule = components.load("schedule", settings.schedule)(settings)

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate after the share `progress` (0 to 1) of the run's rows."""
        settings = self.settings
        if progress < settings.warmup:
            return settings.lr * progress / settings.warmup
        after_warmup = (progress - settings.warmup) / (1 - settings.warmup)
        factor = self.schedule.factor(min(after_warmup, 1.0))
        if not isinstance(factor, (int, float)) or not 0 <= factor < math.inf:
            raise TrainingError(
                f"train.schedule={settings.schedule}: {type(self.schedule).__name__}.factor("
                f"{min(after_warmup, 1.0):.3g}) returned {factor!r}; return a number from 0 up"
            )
        return settings.lr * factor

    def set_rates(self, groups: Iterable[dict[str, Any]], progress: float, epochs: float) -> float:
        """Set each parameter group's learning rate and its `frozen` flag; return the highest rate.

        Deeper groups have lower rates and stay frozen for longer (discriminative fine-tuning and
        gradual unfreezing: Howard and Ruder 2018).

        Args:
            groups: Parameter groups; see `pipeline.optim.groups`.
            progress: Share of the run's rows consumed so far, 0 to 1.
            epochs: Epochs consumed so far; may be fractional.
        """
        rate = self.learning_rate(progress)
        for group in groups:
            factor = self.settings.layer_decay ** group["depth"] * group["lr_factor"]
            group["lr"] = rate * factor
            group["frozen"] = group["freeze"] or epochs < self.settings.unfreeze * group["depth"]
        return rate

    def unfreeze_warning(self, groups: Iterable[dict[str, Any]], epochs: float) -> str:
        """Return a warning if some layers stay frozen for all `epochs`, else an empty string."""
        unfreeze = self.settings.unfreeze
        depths = {group["depth"] for group in groups}
        frozen = [depth for depth in depths if unfreeze * depth >= epochs]
        if not unfreeze or not frozen:
            return ""
        return (
            f"train.unfreeze={unfreeze:g}: the lowest {len(frozen)} of {len(depths)} parts of the "
            f"model are never trained in {epochs:g} epochs; set it below "
            f"{epochs / max(depths):.3g} to train all of them"
        )
