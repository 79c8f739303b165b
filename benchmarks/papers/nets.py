"""Networks for the benchmark problems: this project's recurrent layers with an output layer.

Shapes: T steps, B sequences, R rows and C columns of an image, F input features, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.cells.grid_lstm import GridLstm
from pipeline.models.encoder import encoder
from pipeline.models.layers.grid_image import GridImage


class StepwiseNet(nn.Module):
    """Recurrent layers with a linear output layer at each step."""

    def __init__(self, features: int, outputs: int, settings: Any) -> None:
        super().__init__()
        self.stack = encoder(features, settings)
        self.head = nn.Linear(self.stack.outputs, outputs)

    def forward(self, batch: Any) -> Tensor:
        """Return [T, B, outputs]."""
        return self.head(self.stack(batch.x, batch.lengths, torch.zeros_like(batch.lengths))[0])


class GridImageNet(nn.Module):
    """Grid-LSTM over the positions of square images, then an MLP over all hidden states."""

    def __init__(self, features: int, outputs: int, settings: Any) -> None:
        super().__init__()
        assert isinstance(settings, GridLstm.Settings)
        self.grid = GridImage(features, settings)
        self.head = nn.Sequential(
            nn.LazyLinear(4 * settings.hidden), nn.ReLU(), nn.Linear(4 * settings.hidden, outputs)
        )

    def forward(self, batch: Any) -> Tensor:
        """Return [1, B, outputs]."""
        side = int(len(batch.x) ** 0.5)
        image = batch.x.unflatten(0, (side, side))  # [R, C, B, F]
        states = self.grid(image, torch.zeros_like(batch.lengths))  # [R, C, B, H]
        return self.head(states.flatten(0, 1).transpose(0, 1).flatten(1))[None]
