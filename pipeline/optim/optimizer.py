"""AdamW (Loshchilov and Hutter 2019) with a learning-rate schedule and gradient clipping."""

import torch
from torch import Tensor, nn

from pipeline.models.encoder import parameters_by_depth
from pipeline.optim.schedule import Schedule
from pipeline.optim.settings import OptimizerSettings


class Optimizer:
    """Steps a model's parameters at the learning rates of a schedule."""

    def __init__(self, model: nn.Module, settings: OptimizerSettings, schedule: Schedule) -> None:
        self.adamw = build(model, settings)
        self.learning_rate = 0.0
        """Learning rate of the last step."""
        self._model, self._schedule = model, schedule
        self._max_norm = settings.max_grad_norm

    def step(
        self, scaler: torch.amp.GradScaler, factor: Tensor, progress: float, epochs: float
    ) -> Tensor:
        """Multiply the gradients by `factor`, clip them, step, and set them to None.

        `progress` and `epochs` are those of `Schedule.set_rates`, with the rows of this step
        included in `progress`. Returns the gradient norm before clipping, on the device and
        without synchronizing with it.
        """
        self.learning_rate = self._schedule.set_rates(self.adamw, progress, epochs)
        norm = clipped_step(self._model, self.adamw, scaler, factor, self._max_norm)
        self.adamw.zero_grad(set_to_none=True)
        return norm


def build(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """Build AdamW with one parameter group per weight decay and depth.

    Matrices use `weight_decay`, embeddings `embedding_decay`; vectors, such as biases, are not
    decayed. Each group has a `depth`, counted from the top of the model (0 if neither `layer_decay`
    nor `unfreeze` is used), and a flag `frozen`.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    depths: dict[int, int] = {}
    if settings.layer_decay < 1 or settings.unfreeze:
        depths = {id(p): depth for depth, ps in enumerate(parameters_by_depth(model)) for p in ps}
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


def clipped_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    factor: Tensor,
    max_norm: float,
) -> Tensor:
    """Multiply the gradients by `factor`, clip them to `max_norm` (0: no clipping) and step.

    Gradients of frozen groups are dropped first: they do not count in the norm, and the optimizer
    creates no state for them. In fp16, the scaler skips a step whose gradients overflowed.

    Returns the gradient norm before clipping, on the device and without synchronizing with it.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["frozen"] else ():
            parameter.grad = None
    scaler.unscale_(optimizer)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) * factor
    if max_norm:
        factor = factor * (max_norm / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor)
    scaler.step(optimizer)
    scaler.update()
    return norm
