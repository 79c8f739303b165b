"""AdamW."""

from typing import Any

import torch

from pipeline.optim.base import Algorithm
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting


class AdamW(Algorithm):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): torch.optim.AdamW."""

    class Settings(OptimizerSettings):
        beta1: float = setting(0.9, "decay per update of the mean of the gradients", ge=0, lt=1)
        beta2: float = setting(0.999, "decay per update of the mean of their squares", ge=0, lt=1)

    settings: Settings

    def build(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        betas = (self.settings.beta1, self.settings.beta2)
        return [torch.optim.AdamW(groups, lr=self.settings.lr, betas=betas, fused=True)]
