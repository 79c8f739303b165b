"""Stacked recurrent layers that give each row of a padded batch what the row alone gives.

Legend: T tokens of the longest row, B rows, I input features, H hidden units, D directions.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.dropout import LockedDropout

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}


class Stack(nn.Module):
    """`layers` recurrent layers, each reading the states of the one below (Graves 2013).

    `cell` is "lstm" (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000) or
    "gru" (Cho et al. 2014, in cuDNN's form with the reset after the product). A bidirectional
    layer concatenates both directions (Schuster and Paliwal 1997), so the next layer sees both.
    Locked dropout lies between the layers.
    """

    def __init__(
        self,
        cell: str,
        inputs: int,
        hidden: int,
        layers: int,
        *,
        bidirectional: bool,
        dropout: float,
        site: int = 0,
    ) -> None:
        super().__init__()
        self.outputs = hidden * (2 if bidirectional else 1)
        widths = [inputs] + [self.outputs] * layers
        self.layers = nn.ModuleList(
            Layer(cell, i, hidden, bidirectional=bidirectional) for i, _ in pairwise(widths)
        )
        self.dropouts = nn.ModuleList(LockedDropout(dropout, site + i) for i in range(layers - 1))

    def forward(self, x: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """x [T, B, I], lengths [B] in 1..T, keys [B] -> states [T, B, D*H].

        States at and past a row's length are undefined and must not be used.
        """
        reverse = reversal(lengths, x.shape[0])
        x = self.layers[0](x, reverse)
        for layer, dropout in zip(self.layers[1:], self.dropouts, strict=True):
            x = layer(dropout(x, keys), reverse)
        return x


class Layer(nn.Module):
    """One recurrent layer in one or two directions.

    The backward direction runs forward over a copy in which each row is reversed by its own
    length. Padding thus always comes after the tokens, where it cannot reach them, and neither
    direction needs packed sequences, which would leave the fast kernels.
    """

    def __init__(self, cell: str, inputs: int, hidden: int, *, bidirectional: bool) -> None:
        super().__init__()
        directions = 2 if bidirectional else 1
        self.directions = nn.ModuleList(CELLS[cell](inputs, hidden) for _ in range(directions))
        for direction in self.directions:
            _initialise(direction, cell, hidden)

    def forward(self, x: Tensor, reverse: Tensor) -> Tensor:
        """x [T, B, I], reverse [T*B] of `reversal` -> states [T, B, D*H]."""
        forward = self.directions[0](x)[0]  # [T, B, H]
        if len(self.directions) == 1:
            return forward
        backward = self.directions[1](_Permute.apply(x, reverse))[0]  # [T, B, H]
        return torch.cat([forward, _Permute.apply(backward, reverse)], -1)


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


def _initialise(module: nn.Module, cell: str, hidden: int) -> None:
    """Orthogonal recurrent weights a gate, Glorot input weights, forget-gate bias 1."""
    for name, parameter in module.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.data.split(hidden):
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            for gate in parameter.data.split(hidden):
                nn.init.xavier_uniform_(gate)
        else:
            nn.init.zeros_(parameter)
            if cell == "lstm" and name.startswith("bias_ih"):  # the two biases add
                nn.init.ones_(parameter.data[hidden : 2 * hidden])
