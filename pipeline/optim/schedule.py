"""Learning rates as a function of the rows consumed."""

import math

import torch

from pipeline.optim.settings import OptimizerSettings


def set_rates(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, done: float, epochs: float
) -> float:
    """Set what each group learns by when the share `done` of all rows is consumed, in so many
    `epochs`: less the deeper it lies, and nothing until its layer's turn has come (discriminative
    rates and gradual unfreezing: Howard and Ruder 2018). Returns the highest rate."""
    rate = learning_rate(settings, done)
    for group in optimizer.param_groups:
        group["lr"] = rate * settings.layer_decay ** group["depth"]
        group["frozen"] = epochs < settings.unfreeze * group["depth"]
    return rate


def never_thawed(
    optimizer: torch.optim.Optimizer, settings: OptimizerSettings, epochs: float
) -> str:
    """A line on layers whose turn does not come before the run ends, if there are any."""
    depths = {group["depth"] for group in optimizer.param_groups}
    frozen = [depth for depth in depths if settings.unfreeze * depth >= epochs]
    if not settings.unfreeze or not frozen:
        return ""
    return (
        f"train.unfreeze={settings.unfreeze:g}: {len(frozen)} of {len(depths)} parts, the lowest, "
        f"stay as they begin, as there are {epochs:g} epochs; below "
        f"{epochs / max(depths):.3g} all of them learn"
    )


def learning_rate(settings: OptimizerSettings, done: float) -> float:
    """The rate when the share `done` (0 to 1) of all rows is consumed."""
    if done < settings.warmup:
        return settings.lr * done / settings.warmup
    cosine = (done - settings.warmup) / (1 - settings.warmup)
    floor = settings.min_lr_ratio
    return settings.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(cosine, 1.0))))
