"""Stacked recurrent layers that give each row of a padded batch what the row alone gives.

Legend: T tokens of the longest row, B rows, I input features, H hidden units, D directions.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pipeline import kernels
from pipeline.models.cells import CELLS, Cell
from pipeline.models.dropout import LockedDropout
from pipeline.models.pooling import valid
from pipeline.models.settings import ModelSettings


class Stack(nn.Module):
    """`layers` recurrent layers, each reading the states of the one below (Graves 2013).

    A bidirectional layer concatenates both directions (Schuster and Paliwal 1997), so the next
    layer sees both. Locked dropout lies between the layers.
    """

    def __init__(self, inputs: int, settings: ModelSettings, site: int = 0) -> None:
        super().__init__()
        self.outputs = settings.hidden * (2 if settings.bidirectional else 1)
        widths = [inputs] + [self.outputs] * settings.layers
        self.layers = nn.ModuleList(Layer(i, settings) for i, _ in pairwise(widths))
        self.dropouts = nn.ModuleList(
            LockedDropout(settings.dropout, site + i) for i in range(settings.layers - 1)
        )

    def forward(self, x: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """x [T, B, I], lengths [B] in 1..T, keys [B] -> states [T, B, D*H], 0 past a length."""
        x = self.layers[0](x, lengths)
        for layer, dropout in zip(self.layers[1:], self.dropouts, strict=True):
            x = layer(dropout(x, keys), lengths)
        return x


class Layer(nn.Module):
    """One recurrent layer in one or two directions."""

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__()
        self.native = settings.native
        self.directions = nn.ModuleList(
            CELLS[settings.cell](inputs, settings) for _ in range(1 + settings.bidirectional)
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [T, B, I], lengths [B] in 1..T -> states [T, B, D*H], 0 past a row's length."""
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        if self.native and x.device.type == "cpu" and kernels.runs(dtype):
            return self._native(x.to(dtype), lengths)
        return self._steps(x, lengths)

    def _native(self, x: Tensor, lengths: Tensor) -> Tensor:
        weights = kernels.Weights(
            *(
                torch.stack(parts)
                for parts in zip(
                    *((c.input, c.recurrent(), c.bias, c.apart()) for c in self._cells()),
                    strict=True,
                )
            )
        )
        return kernels.scan(self._cells()[0].kind, x, lengths, weights)[0]

    def _steps(self, x: Tensor, lengths: Tensor) -> Tensor:
        """The backward direction runs forward over a copy in which each row is reversed by its own
        length. Padding thus always comes after the tokens, where it cannot reach them, and neither
        direction needs packed sequences, which would leave the fast kernels.
        """
        cells = self._cells()
        zero = x.new_zeros(x.shape[1], cells[0].units)
        states = cells[0].steps(x, zero, zero)[0]  # [T, B, H]
        if len(cells) == 2:
            reverse = reversal(lengths, x.shape[0])
            backward = cells[1].steps(_Permute.apply(x, reverse), zero, zero)[0]
            states = torch.cat([states, _Permute.apply(backward, reverse)], -1)
        return states * valid(lengths, len(x))[..., None]

    def _cells(self) -> list[Cell]:
        return list(self.directions)  # type: ignore[arg-type]


def reversal(lengths: Tensor, steps: int) -> Tensor:
    """Where each (t, b) of a [T, B] batch comes from when every row is reversed by its length.

    lengths [B] -> [T*B] indices into the flattened batch; padding stays where it is. The
    permutation is its own inverse.
    """
    t = torch.arange(steps, device=lengths.device)[:, None]  # [T, 1]
    source = torch.where(t < lengths, lengths - 1 - t, t)  # [T, B]
    return (source * len(lengths) + torch.arange(len(lengths), device=lengths.device)).flatten()


class _Permute(torch.autograd.Function):
    """Reorder the (t, b) of x [T, B, F] by a permutation that is its own inverse.

    So the gradient is a gather too, where autograd would scatter and add.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return x.flatten(0, 1).index_select(0, index).view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return _Permute.apply(grad, index), None
