"""What the loops over the tokens read and write.

Legend: T tokens of the longest row, B rows, H hidden units, G gates of the cell, D directions (the
second reads each row from its end).
"""

from typing import NamedTuple

from torch import Tensor


class Weights(NamedTuple):
    """Those of a layer, all directions; the gates in the order of the cell's equations."""

    input: Tensor
    """[D, G*H, I], I features that the layer reads"""
    hidden: Tensor
    """[D, G*H, H]"""
    bias: Tensor
    """[D, G*H], added to the input's product."""
    apart: Tensor
    """[D, H]: GRU's bias of the candidate's h' U, GORU's of modReLU; not used by others."""


class Zones(NamedTuple):
    """Zoneout (Krueger et al. 2017): how much of its last value each unit keeps at a token, 0 or 1
    in training, their mean in evaluation."""

    h: Tensor
    """[T, B, D*H]"""
    c: Tensor
    """[T, B, D*H]"""


class Forward(NamedTuple):
    """Of one layer; `gates`, `y` and `side` are filled in."""

    lengths: Tensor
    """[B]"""
    hidden: Tensor
    """[D, G*H, H]: as in `Weights`."""
    apart: Tensor
    """[D, H], wide: as in `Weights`."""
    h0: Tensor
    """[D, B, H]: the state before the first token."""
    c0: Tensor
    """[D, B, H], wide"""
    gates: Tensor
    """[T, B, D*G*H]: what comes into the gates, which become the gates."""
    y: Tensor
    """[T, B, D*H]: the states, 0 past a row's length."""
    side: Tensor
    """[D, T, B, H]: LSTM's c (wide), GRU's and GORU's q; Elman's new h where there is zoneout."""
    zones: Tensor | None
    """[T, B, 2*D*H]: both of `Zones`."""


class Backward(NamedTuple):
    """Gradients; all but `dy` are filled in. Wide is float32 at least."""

    dy: Tensor
    """[T, B, D*H]"""
    d_gates: Tensor
    """[T, B, D*G*H]: of what came into the gates, 0 past a row's length."""
    dq: Tensor
    """[D, T, B, H]: of GRU's and GORU's q, 0 past a row's length."""
    dh: Tensor
    """[D, B, H], wide: 0; afterwards that of h0."""
    dc: Tensor
    """[D, B, H], wide: that of the last c; afterwards that of c0."""
