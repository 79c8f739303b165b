"""Base classes of recurrent cells: their weights, and their loop over the tokens in PyTorch.

Shapes: T tokens, B rows, I input features, H hidden units, G gates.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.kernels import Zones
from pipeline.models.dropout import WeightDrop
from pipeline.models.settings import ModelSettings


class Cell(nn.Module, ABC):
    """The weights and equations of one recurrent layer in one direction.

    h is the hidden state, c LSTM's memory (other cells pass it through); h' and c' are those of the
    previous token.
    """

    gates: ClassVar[int]
    """Number of products of h' in each step."""

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__()
        self.units = settings.hidden
        self.settings = settings
        self.input = nn.Parameter(torch.empty(self.gates * self.units, inputs))  # [G*H, I]
        for gate in self.input.data.split(self.units) if inputs else ():
            nn.init.xavier_uniform_(gate)  # each gate separately
        self.bias = nn.Parameter(torch.zeros(self.gates * self.units))  # [G*H]
        self.drop = WeightDrop(settings.weight_drop)

    @property
    def kernel_name(self) -> str:
        """The cell's name in `pipeline.kernels`."""
        return type(self).__name__.lower()

    @abstractmethod
    def recurrent(self) -> Tensor:
        """Return the weights that multiply h': [G*H, H]."""

    def candidate_bias(self) -> Tensor:
        """Return the bias [H] that is not added to the input's product; 0 if the cell has none."""
        return self.bias.new_zeros(self.units)

    @abstractmethod
    def step(self, wx: Tensor, uh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute one token: W x + b [B, G*H], U h' [B, G*H], h' and c' [B, H] -> h, c [B, H]."""

    def loop(
        self, x: Tensor, h: Tensor, c: Tensor, zones: Zones | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run token by token: x [T, B, I], h', c' [B, H] -> states [T, B, H], last c [B, H]."""
        incoming = functional.linear(x, self.input, self.bias)  # [T, B, G*H]
        weight = self.recurrent().to(incoming.dtype)
        h, states = h.to(incoming.dtype), []
        for t, wx in enumerate(incoming):
            new_h, new_c = self.step(wx, functional.linear(h, weight), h, c)
            if zones is not None:
                new_h = torch.lerp(new_h, h, zones.h[t].to(new_h.dtype))
                new_c = torch.lerp(new_c, c, zones.c[t].to(new_c.dtype))
            h, c = new_h, new_c
            states.append(h)
        return torch.stack(states), c

    def run(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Do the same as `loop` without zoneout, by PyTorch's fused layer if it has one."""
        return self.loop(x, h, c)


class Dense(Cell):
    """A cell whose recurrent weights are dense matrices, initialized as orthogonal ones, each gate
    separately (Saxe et al. 2014)."""

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__(inputs, settings)
        self.hidden = nn.Parameter(torch.empty(self.gates * self.units, self.units))  # [G*H, H]
        for gate in self.hidden.data.split(self.units):
            nn.init.orthogonal_(gate)

    def recurrent(self) -> Tensor:
        return self.drop(self.hidden)

    def torch_weights(self) -> list[Tensor]:
        """Return the weights for PyTorch's functional layers, which add a second bias to U h'."""
        return [self.input, self.recurrent(), self.bias, torch.zeros_like(self.bias)]
