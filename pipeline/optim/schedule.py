"""Learning-rate schedule and gradual unfreezing, as functions of the rows consumed.

Linear warm-up, then cosine decay (Loshchilov and Hutter 2017).
"""

import math
from dataclasses import dataclass

import torch

from pipeline.optim.settings import OptimizerSettings


@dataclass(frozen=True)
class Schedule:
    """Learning rate and frozen layers at each point of a run."""

    settings: OptimizerSettings

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate after the share `progress` (0 to 1) of the run's rows."""
        settings = self.settings
        if progress < settings.warmup:
            return settings.lr * progress / settings.warmup
        cosine = (progress - settings.warmup) / (1 - settings.warmup)
        floor = settings.min_lr_ratio
        factor = floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(cosine, 1.0)))
        return settings.lr * factor

    def set_rates(self, optimizer: torch.optim.Optimizer, progress: float, epochs: float) -> float:
        """Set each parameter group's learning rate and its `frozen` flag; return the highest rate.

        Deeper groups have lower rates and stay frozen for longer (discriminative fine-tuning and
        gradual unfreezing: Howard and Ruder 2018).

        Args:
            optimizer: Optimizer whose groups have a `depth`; see `pipeline.optim.optimizer`.
            progress: Share of the run's rows consumed so far, 0 to 1.
            epochs: Epochs consumed so far; may be fractional.
        """
        rate = self.learning_rate(progress)
        for group in optimizer.param_groups:
            group["lr"] = rate * self.settings.layer_decay ** group["depth"]
            group["frozen"] = epochs < self.settings.unfreeze * group["depth"]
        return rate

    def unfreeze_warning(self, optimizer: torch.optim.Optimizer, epochs: float) -> str:
        """Return a warning if some layers stay frozen for all `epochs`, else an empty string."""
        unfreeze = self.settings.unfreeze
        depths = {group["depth"] for group in optimizer.param_groups}
        frozen = [depth for depth in depths if unfreeze * depth >= epochs]
        if not unfreeze or not frozen:
            return ""
        return (
            f"train.unfreeze={unfreeze:g}: the lowest {len(frozen)} of {len(depths)} parts of the "
            f"model are never trained in {epochs:g} epochs; set it below "
            f"{epochs / max(depths):.3g} to train all of them"
        )
