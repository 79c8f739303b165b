"""The simple recurrent network."""

import torch
from torch import Tensor, nn

from pipeline.models.cells.cell import Dense
from pipeline.models.settings import ModelSettings


class Elman(Dense):
    """h = f(W x + U h' + b), with f tanh or relu (Elman 1990).

    `recurrent_init: identity` with relu is the IRNN of Le et al. 2015.
    """

    gates = 1

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__(inputs, settings)
        if settings.recurrent_init == "identity":
            nn.init.eye_(self.hidden)

    @property
    def kind(self) -> str:
        return "elman" if self.settings.activation == "tanh" else "elman_relu"

    def step(self, wx: Tensor, uh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        return (torch.tanh if self.settings.activation == "tanh" else torch.relu)(wx + uh), c

    def layer(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        layer = torch.rnn_tanh if self.settings.activation == "tanh" else torch.rnn_relu
        trains = torch.is_grad_enabled()
        y, _ = layer(x, h[None].to(x), self.params(), True, 1, 0.0, trains, False, False)
        return y, c
