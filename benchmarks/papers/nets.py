"""What the problems are given to: this project's layers below a linear one."""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.encoder import encoder
from pipeline.models.layers.grid_image import GridImage
from pipeline.models.settings import ModelSettings


class Steps(nn.Module):
    """Recurrent layers with a linear layer at each step."""

    def __init__(self, features: int, outputs: int, settings: ModelSettings) -> None:
        super().__init__()
        self.stack = encoder(features, settings)
        self.head = nn.Linear(self.stack.outputs, outputs)

    def forward(self, batch: Any) -> Tensor:
        """[T, B, outputs]"""
        return self.head(self.stack(batch.x, batch.lengths, torch.zeros_like(batch.lengths))[0])


class Plane(nn.Module):
    """Grid-LSTM over the places of square images, then one hidden layer over the states of all."""

    def __init__(self, features: int, outputs: int, settings: ModelSettings) -> None:
        super().__init__()
        self.grid = GridImage(features, settings)
        self.head = nn.Sequential(
            nn.LazyLinear(4 * settings.hidden), nn.ReLU(), nn.Linear(4 * settings.hidden, outputs)
        )

    def forward(self, batch: Any) -> Tensor:
        """[1, B, outputs]"""
        side = int(len(batch.x) ** 0.5)
        places = batch.x.unflatten(0, (side, side))
        states = self.grid(places, torch.zeros_like(batch.lengths))  # [R, C, B, H]
        return self.head(states.flatten(0, 1).transpose(0, 1).flatten(1))[None]
