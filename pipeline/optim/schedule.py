"""Learning-rate schedule and gradual unfreezing, as functions of the share of rows consumed.

Linear warm-up, then cosine decay (Loshchilov and Hutter 2017).
"""

import math

import torch

from pipeline.optim.settings import OptimizerSettings


def set_rates(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, progress: float, epochs: float
) -> float:
    """Set each parameter group's learning rate and its `frozen` flag; return the highest rate.

    Deeper groups have lower rates and stay frozen for longer (discriminative fine-tuning and
    gradual unfreezing: Howard and Ruder 2018).

    Args:
        optimizer: Optimizer from `pipeline.optim.optimizer.build`.
        settings: Optimizer settings.
        progress: Share of the run's rows consumed so far, 0 to 1.
        epochs: Epochs consumed so far; may be fractional.
    """
    rate = learning_rate(settings, progress)
    for group in optimizer.param_groups:
        group["lr"] = rate * settings.layer_decay ** group["depth"]
        group["frozen"] = epochs < settings.unfreeze * group["depth"]
    return rate


def unfreeze_warning(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, epochs: float
) -> str:
    """Return a warning if some layers stay frozen for all `epochs`, else an empty string."""
    depths = {group["depth"] for group in optimizer.param_groups}
    frozen = [depth for depth in depths if settings.unfreeze * depth >= epochs]
    if not settings.unfreeze or not frozen:
        return ""
    return (
        f"train.unfreeze={settings.unfreeze:g}: the lowest {len(frozen)} of {len(depths)} parts of "
        f"the model are never trained in {epochs:g} epochs; set it below "
        f"{epochs / max(depths):.3g} to train all of them"
    )


def learning_rate(settings: OptimizerSettings, progress: float) -> float:
    """Return the learning rate after the share `progress` (0 to 1) of the run's rows."""
    if progress < settings.warmup:
        return settings.lr * progress / settings.warmup
    cosine = (progress - settings.warmup) / (1 - settings.warmup)
    floor = settings.min_lr_ratio
    return settings.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(cosine, 1.0))))
