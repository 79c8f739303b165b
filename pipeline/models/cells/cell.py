"""What all recurrent cells have: their weights, and a pass over the tokens in torch's operations.

Legend: T tokens, B rows, I input features, H hidden units, G gates.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

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
        self.bias = nn.Parameter(torch.zeros(self.gates * self.units))  # [G*H]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot input weights, each gate for itself."""
        for gate in self.input.data.split(self.units):
            nn.init.xavier_uniform_(gate)

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
    def steps(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """All tokens in turn, in torch's own operations, for devices without a native loop.

        x [T, B, I]; h and c [B, H], the state before -> states [T, B, H], the last c [B, H].
        """


class Dense(Cell):
    """A cell whose recurrent weights are plain matrices, orthogonal at first, each gate for
    itself (Saxe et al. 2014)."""

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__(inputs, settings)
        self.hidden = nn.Parameter(torch.empty(self.gates * self.units, self.units))  # [G*H, H]
        for gate in self.hidden.data.split(self.units):
            nn.init.orthogonal_(gate)

    def recurrent(self) -> Tensor:
        return self.hidden

    def params(self) -> list[Tensor]:
        """As torch's functional layers want them: two biases, of which theirs adds the second."""
        second = torch.zeros_like(self.bias)
        return [self.input, self.recurrent(), self.bias, second]
