"""AdamW, its learning rate as a function of rows, and the step with its clipping.

AdamW: Loshchilov and Hutter 2019. Warm-up and cosine: Loshchilov and Hutter 2017.
"""

import torch
from torch import Tensor, nn

from pipeline.models.encoder import parameters_by_depth
from pipeline.optim.settings import OptimizerSettings


def build(model: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices, with their own on embeddings, with none on vectors.
    Groups know their depth in the model, if that matters."""
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


def step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    factor: Tensor,
    clip: float,
) -> Tensor:
    """Multiply the gradients by `factor`, clip their norm to `clip` (0: do not) and step. What is
    frozen has none, and no moments yet.

    Returns the norm before clipping, on the device: nothing here waits for it. In fp16 a step
    whose gradients overflowed is skipped by the scaler.
    """
    for group in optimizer.param_groups:
        for parameter in group["params"] if group["frozen"] else ():
            parameter.grad = None
    scaler.unscale_(optimizer)
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients) * factor
    if clip:
        factor = factor * (clip / (norm + 1e-6)).clamp(max=1.0)
    torch._foreach_mul_(gradients, factor)
    scaler.step(optimizer)
    scaler.update()
    return norm
