"""Base classes of recurrent cells: their weights, and their loop over the tokens in PyTorch.

Shapes: T tokens, B rows, I input features, H hidden units, G matrices [H, H] that
multiply the hidden state. W are input weights, U recurrent weights, b biases.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.components import Component
from pipeline.kernels import Zones
from pipeline.models.dropout import WeightDrop
from pipeline.models.settings import ModelSettings


class Cell(Component, nn.Module, ABC):
    """The weights and equations of one recurrent layer in one direction.

    h is the hidden state; c is the memory cell of an LSTM, which other cells return unchanged.
    h' and c' are those of the previous token, `last_h` and `last_c` in the code.
    """

    Settings: ClassVar[type[ModelSettings]] = ModelSettings
    """The cell's keys in the section `model`, added to those of all models."""
    gates: ClassVar[int]
    """G: number of matrices [H, H] that multiply h', one per gate or candidate."""
    encoder: ClassVar[str] = ""
    """Name of the encoder that arranges these cells; empty: the one of `model.encoder`."""
    has_memory: ClassVar[bool] = False
    """Whether the cell changes c."""

    def __init__(self, input_size: int, settings: ModelSettings) -> None:
        super().__init__()
        self.units = settings.hidden
        self.settings = settings
        # W [G*H, I]: the input weights. The name of a parameter is a key in checkpoints.
        self.input = nn.Parameter(torch.empty(self.gates * self.units, input_size))
        # The depth LSTM of a grid with one dimension has no input features.
        for gate in self.input.data.split(self.units) if input_size else ():
            nn.init.xavier_uniform_(gate)  # each gate separately
        self.bias = nn.Parameter(torch.zeros(self.gates * self.units))  # b [G*H]
        self.drop = WeightDrop(settings.weight_drop)

    @property
    def kernel(self) -> str:
        """The name in `pipeline.kernels` of the cell's loop over the tokens; empty: none.

        Without one, `run_fused` or `run_stepwise` is used.
        """
        return ""

    @property
    def is_fused(self) -> bool:
        """Whether the cell has a fused layer, in `run_fused`."""
        return type(self).run_fused is not Cell.run_fused

    @abstractmethod
    def recurrent_weight(self) -> Tensor:
        """Return the recurrent weights U [G*H, H], which multiply h'."""

    def candidate_bias(self) -> Tensor:
        """Return the bias [H] of the candidate n besides b: d_n in GRU, d in GORU, else zeros."""
        return self.bias.new_zeros(self.units)

    @abstractmethod
    def step(self, wx: Tensor, uh: Tensor, last_h: Tensor, last_c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute h and c [B, H] of one token.

        Takes `wx` = W x + b [B, G*H], `uh` = U h' [B, G*H], h' and c' [B, H].
        """

    def run_stepwise(
        self, x: Tensor, h: Tensor, c: Tensor, zones: Zones | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run token by token in PyTorch.

        Takes x [T, B, I], and h and c [B, H] before the first token. Returns the hidden states
        [T, B, H], and c [B, H] after the last token. `zones` applies zoneout: where it is 1, a unit
        keeps its previous value.
        """
        incoming = functional.linear(x, self.input, self.bias)  # [T, B, G*H]
        weight = self.recurrent_weight().to(incoming.dtype)
        h, states = h.to(incoming.dtype), []
        for t, wx in enumerate(incoming):
            new_h, new_c = self.step(wx, functional.linear(h, weight), h, c)
            if zones is not None:
                new_h = torch.lerp(new_h, h, zones.h[t].to(new_h.dtype))
                new_c = torch.lerp(new_c, c, zones.c[t].to(new_c.dtype))
            h, c = new_h, new_c
            states.append(h)
        return torch.stack(states), c

    def run_fused(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the same as `run_stepwise` without zoneout.

        Cells for which PyTorch has a fused layer override this method to use it.
        """
        return self.run_stepwise(x, h, c)


class Dense(Cell):
    """A cell whose recurrent weights are dense matrices, initialized as orthogonal ones, each gate
    separately (Saxe et al. 2014)."""

    def __init__(self, input_size: int, settings: ModelSettings) -> None:
        super().__init__(input_size, settings)
        # U [G*H, H]: the recurrent weights. The name of a parameter is a key in checkpoints.
        self.hidden = nn.Parameter(torch.empty(self.gates * self.units, self.units))
        for gate in self.hidden.data.split(self.units):
            nn.init.orthogonal_(gate)

    def recurrent_weight(self) -> Tensor:
        return self.drop(self.hidden)

    def torch_weights(self) -> list[Tensor]:
        """Return the weights for PyTorch's functional layers, which add a second bias to U h'."""
        return [self.input, self.recurrent_weight(), self.bias, torch.zeros_like(self.bias)]
