"""Muon, with AdamW for the parameters that are not hidden matrices."""

from typing import Any

import torch
from torch import Tensor

from pipeline.optim.base import Algorithm
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting


class Muon(Algorithm):
    """Muon (Jordan et al. 2024): momentum whose matrices are orthogonalized: torch.optim.Muon.

    It trains all matrices but embeddings, the output layer included; AdamW trains the rest. The
    updates are scaled to the size of AdamW's (Liu et al. 2025), so both use the same learning rate.
    """

    class Settings(OptimizerSettings):
        muon_momentum: float = setting(0.95, "momentum of matrices", ge=0, lt=1)

    settings: Settings

    def build(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        own = self.settings
        matrices: list[dict[str, Any]] = []
        others: list[dict[str, Any]] = []
        for group in groups:
            embeddings = {id(parameter) for parameter in group["embeddings"]}
            parts: tuple[list[Tensor], list[Tensor]] = ([], [])
            for p in group["params"]:
                parts[p.ndim != 2 or id(p) in embeddings].append(p)
            for part, target in zip(parts, (matrices, others), strict=True):
                if part:
                    target.append({**group, "params": part})
        optimizers: list[torch.optim.Optimizer] = []
        if matrices:
            optimizers.append(
                torch.optim.Muon(
                    matrices, lr=own.lr, momentum=own.muon_momentum,
                    adjust_lr_fn="match_rms_adamw",
                )
            )  # fmt: skip
        if others:
            optimizers.append(torch.optim.AdamW(others, lr=own.lr, fused=True))
        return optimizers
