"""What all recurrent cells have: their weights, and passes over the tokens in torch's operations.

Legend: T tokens, B rows, I input features, H hidden units, G gates.
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
    """The weights of one layer in one direction."""

    gates: ClassVar[int]
    """Products of the state that a step needs."""

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__()
        self.units = settings.hidden
        self.settings = settings
        self.input = nn.Parameter(torch.empty(self.gates * self.units, inputs))  # [G*H, I]
        for gate in self.input.data.split(self.units) if inputs else ():
            nn.init.xavier_uniform_(gate)  # each gate for itself
        self.bias = nn.Parameter(torch.zeros(self.gates * self.units))  # [G*H]
        self.drop = WeightDrop(settings.weight_drop)

    @property
    def kind(self) -> str:
        """Its name among the native loops."""
        return type(self).__name__.lower()

    @abstractmethod
    def recurrent(self) -> Tensor:
        """[G*H, H]: what the state before is multiplied by."""

    def apart(self) -> Tensor:
        """[H]: a bias that is not added to the input's; 0 where a cell has none."""
        return self.bias.new_zeros(self.units)

    @abstractmethod
    def step(self, wx: Tensor, uh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The equations: W x + b [B, G*H], U h' [B, G*H], h' and c' [B, H] -> h and c [B, H]."""

    def loop(
        self, x: Tensor, h: Tensor, c: Tensor, zones: Zones | None = None
    ) -> tuple[Tensor, Tensor]:
        """Token by token: x [T, B, I], h and c [B, H] -> states [T, B, H], the last c [B, H]."""
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

    def layer(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The same as `loop`, by torch's own layer where there is one."""
        return self.loop(x, h, c)


class Dense(Cell):
    """A cell whose recurrent weights are plain matrices, orthogonal at first, each gate for
    itself (Saxe et al. 2014)."""

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__(inputs, settings)
        self.hidden = nn.Parameter(torch.empty(self.gates * self.units, self.units))  # [G*H, H]
        for gate in self.hidden.data.split(self.units):
            nn.init.orthogonal_(gate)

    def recurrent(self) -> Tensor:
        return self.drop(self.hidden)

    def params(self) -> list[Tensor]:
        """As torch's functional layers want them: two biases, of which theirs adds the second."""
        return [self.input, self.recurrent(), self.bias, torch.zeros_like(self.bias)]
