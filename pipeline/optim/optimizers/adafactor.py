"""Adafactor."""

from typing import Any

import torch

from pipeline.optim.base import Algorithm
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting


class Adafactor(Algorithm):
    """Adafactor (Shazeer and Stern 2018): torch.optim.Adafactor.

    The state of a matrix is one value per row and column. Updates are relative to the size of the
    weights, so `train.lr` is larger than for AdamW; PyTorch's default is 0.01.
    """

    class Settings(OptimizerSettings):
        beta2_decay: float = setting(-0.8, "exponent of the decay of the second moment", lt=0)

    settings: Settings

    def build(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        own = self.settings
        return [torch.optim.Adafactor(groups, lr=own.lr, beta2_decay=own.beta2_decay)]
