"""AdamW, its learning rate as a function of rows, and the step with its clipping.

AdamW: Loshchilov and Hutter 2019. Warm-up and cosine: Loshchilov and Hutter 2017.
"""

import math

import torch
from torch import Tensor, nn

from pipeline.models.encoder import from_the_top
from pipeline.train.settings import TrainSettings


def build(model: nn.Module, settings: TrainSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices, with their own on embeddings, with none on vectors.
    Groups know their depth in the model, if that matters."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    depths: dict[int, int] = {}
    if settings.layer_decay < 1 or settings.unfreeze:
        depths = {id(p): depth for depth, ps in enumerate(from_the_top(model)) for p in ps}
    groups: dict[tuple[int, float], list[Tensor]] = {}
    for parameter in model.parameters():
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        if id(parameter) in embeddings:
            decay = settings.embedding_decay
        groups.setdefault((depths.get(id(parameter), 0), decay), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": group, "weight_decay": decay, "depth": depth, "frozen": False}
            for (depth, decay), group in groups.items()
        ],
        lr=settings.lr,
        fused=True,
    )


def set_rates(
    optimiser: torch.optim.Optimizer, settings: TrainSettings, done: float, epochs: float
) -> float:
    """Set what each group learns by when the share `done` of all rows is consumed, in so many
    `epochs`: less the deeper it lies, and nothing until its layer's turn has come (discriminative
    rates and gradual unfreezing: Howard and Ruder 2018). Returns the highest rate."""
    rate = learning_rate(settings, done)
    for group in optimiser.param_groups:
        group["lr"] = rate * settings.layer_decay ** group["depth"]
        group["frozen"] = epochs < settings.unfreeze * group["depth"]
    return rate


def never_thawed(optimiser: torch.optim.Optimizer, settings: TrainSettings) -> str:
    """A line on layers whose turn does not come before the run ends, if there are any."""
    depths = {group["depth"] for group in optimiser.param_groups}
    frozen = [depth for depth in depths if settings.unfreeze * depth >= settings.epochs]
    if not settings.unfreeze or not frozen:
        return ""
    return (
        f"train.unfreeze={settings.unfreeze:g}: {len(frozen)} of {len(depths)} parts, the lowest, "
        f"stay as they begin, as there are {settings.epochs:g} epochs; below "
        f"{settings.epochs / max(depths):.3g} all of them learn"
    )


def learning_rate(settings: TrainSettings, done: float) -> float:
    """The rate when the share `done` (0 to 1) of all rows is consumed."""
    if done < settings.warmup:
        return settings.lr * done / settings.warmup
    cosine = (done - settings.warmup) / (1 - settings.warmup)
    floor = settings.lr_end
    return settings.lr * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(cosine, 1.0))))


def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the model's: an exponential moving average (Polyak and
    Juditsky 1992 average evenly), of fewer updates while `step` is small."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    weights = [parameter.data for parameter in model.parameters()]
    torch._foreach_lerp_([parameter.data for parameter in average.parameters()], weights, share)


def step(
    model: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    factor: Tensor,
    clip: float,
) -> Tensor:
    """Multiply the gradients by `factor`, clip their norm to `clip` (0: do not) and step. What is
    frozen has none, and no moments yet.

    Returns the norm before clipping, on the device: nothing here waits for it. In fp16 a step
    whose gradients overflowed is skipped by the scaler.
    """
    for group in optimiser.param_groups:
        for parameter in group["params"] if group["frozen"] else ():
            parameter.grad = None
    scaler.unscale_(optimiser)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) * factor
    if clip:
        factor = factor * (clip / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor)
    scaler.step(optimiser)
    scaler.update()
    return norm
