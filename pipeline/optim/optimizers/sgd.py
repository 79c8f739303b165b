"""Stochastic gradient descent with momentum."""

from typing import Any

import torch

from pipeline.optim.base import Algorithm
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting


class SGD(Algorithm):
    """SGD with momentum (Sutskever et al. 2013): torch.optim.SGD; weight decay is an L2 penalty."""

    class Settings(OptimizerSettings):
        momentum: float = setting(0.9, "momentum; 0: plain SGD", ge=0, lt=1)
        nesterov: bool = setting(False, "Nesterov momentum")

    settings: Settings

    def build(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        own = self.settings
        nesterov = own.nesterov and own.momentum > 0
        return [
            torch.optim.SGD(groups, lr=own.lr, momentum=own.momentum, nesterov=nesterov, fused=True)
        ]
