"""The simple recurrent network."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.models.cell import Dense
from pipeline.models.fused import run_fused_layer
from pipeline.models.settings import ModelSettings
from pipeline.settings import Conflict, Sections, setting


class Elman(Dense):
    """Elman network: h = f(W x + U h' + b), where f is tanh or ReLU (Elman 1990).

    `recurrent_init: identity` with ReLU is the IRNN of Le et al. 2015.
    """

    class Settings(ModelSettings):
        activation: Literal["tanh", "relu"] = setting("tanh", "activation of the hidden state")
        recurrent_init: Literal["orthogonal", "identity"] = setting(
            "orthogonal", "initialization of the recurrent weights"
        )

    gates = 1

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        if config.model.recurrent_init == "identity" and config.model.activation == "tanh":
            yield Conflict(
                "model.recurrent_init",
                "the state decays at once with model.activation=tanh",
                "set model.activation=relu",
            )

    def __init__(self, input_size: int, settings: Settings) -> None:
        super().__init__(input_size, settings)
        self.activation = settings.activation
        if settings.recurrent_init == "identity":
            nn.init.eye_(self.hidden)

    @property
    def kernel(self) -> str:
        return "elman" if self.activation == "tanh" else "elman_relu"

    def step(self, wx: Tensor, uh: Tensor, last_h: Tensor, last_c: Tensor) -> tuple[Tensor, Tensor]:
        return (torch.tanh if self.activation == "tanh" else torch.relu)(wx + uh), last_c

    def run_fused(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        rnn = torch.rnn_tanh if self.activation == "tanh" else torch.rnn_relu
        y, _ = run_fused_layer(rnn, x, [h], self.torch_weights())
        return y, c
