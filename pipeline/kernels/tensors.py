"""The tensors that the token loops read and write.

Tensors called wide are float32, or float64 if the layer runs in float64; the others have the data
type of the layer.

Shapes: T tokens of the longest row, B rows, H hidden units, G gates of the cell, D directions (the
second reads each row from its end).
"""

from typing import NamedTuple

from torch import Tensor


class Weights(NamedTuple):
    """A layer's weights in all directions, with the gates in the order of the cell's equations."""

    input: Tensor
    """[D, G*H, I], I input features of the layer."""
    hidden: Tensor
    """[D, G*H, H]"""
    bias: Tensor
    """[D, G*H], added to the input's product."""
    candidate_bias: Tensor
    """[D, H]: GRU's bias of the candidate's product U h', GORU's bias of modReLU; other cells
    ignore it."""
    packed: tuple[Tensor, ...] = ()
    """`hidden` of each direction in the order in which the C++ loop reads it, by `prepare`."""


class Zones(NamedTuple):
    """Zoneout (Krueger et al. 2017): the share of its previous value that each unit keeps at each
    token. In training it is 0 or 1, in evaluation the probability."""

    h: Tensor
    """[T, B, D*H]"""
    c: Tensor
    """[T, B, D*H]"""


class ForwardTensors(NamedTuple):
    """Tensors of one layer's forward pass; the loop fills `gates`, `y` and `aux`."""

    lengths: Tensor
    """[B]"""
    hidden: Tensor
    """[D, G*H, H]: as in `Weights`."""
    candidate_bias: Tensor
    """[D, H], wide: as in `Weights`."""
    h0: Tensor
    """[D, B, H]: the hidden state before the first token."""
    c0: Tensor
    """[D, B, H], wide: LSTM's memory before the first token."""
    gates: Tensor
    """[T, B, D*G*H]: the input's part of the gates, which the loop overwrites with the gates."""
    y: Tensor
    """[T, B, D*H]: the hidden states, 0 past a row's length."""
    aux: Tensor
    """[D, T, B, H]: LSTM's memory c (wide); for GRU and GORU q, the candidate's product U h' (with
    GRU's bias); for Elman with zoneout, the new h before zoneout."""
    zones: Tensor | None
    """[T, B, 2*D*H]: both tensors of `Zones`, concatenated."""


class BackwardTensors(NamedTuple):
    """Gradients of one layer; the loop reads `dy` and fills the others."""

    dy: Tensor
    """[T, B, D*H]"""
    d_gates: Tensor
    """[T, B, D*G*H]: gradient of the input's part of the gates, 0 past a row's length."""
    dq: Tensor
    """[D, T, B, H]: gradient of q for GRU and GORU, 0 past a row's length."""
    dh: Tensor
    """[D, B, H], wide: 0 at first; afterwards the gradient of h0."""
    dc: Tensor
    """[D, B, H], wide: the gradient of the last c at first; afterwards that of c0."""
