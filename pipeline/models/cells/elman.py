"""The simple recurrent network."""

import torch
from torch import Tensor, nn

from pipeline.models.cells.cell import Dense
from pipeline.models.cells.fused import run_fused_layer
from pipeline.models.settings import ModelSettings


class Elman(Dense):
    """Elman network: h = f(W x + U h' + b), where f is tanh or ReLU (Elman 1990).

    `recurrent_init: identity` with ReLU is the IRNN of Le et al. 2015.
    """

    gates = 1

    def __init__(self, input_size: int, settings: ModelSettings) -> None:
        super().__init__(input_size, settings)
        if settings.recurrent_init == "identity":
            nn.init.eye_(self.hidden)

    @property
    def kernel_name(self) -> str:
        return "elman" if self.settings.activation == "tanh" else "elman_relu"

    def step(self, wx: Tensor, uh: Tensor, last_h: Tensor, last_c: Tensor) -> tuple[Tensor, Tensor]:
        return (torch.tanh if self.settings.activation == "tanh" else torch.relu)(wx + uh), last_c

    def run_fused(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        rnn = torch.rnn_tanh if self.settings.activation == "tanh" else torch.rnn_relu
        y, _ = run_fused_layer(rnn, x, [h], self.torch_weights())
        return y, c
