"""Whole recurrent layers on the CPU: large matrix products around a native loop over the tokens.

Legend: T tokens of the longest row, B rows, I input features, H hidden units, G gates of the cell,
D directions (the second reads each row from its end).
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pipeline.kernels.build import library

TYPES = {torch.float64: 0, torch.float32: 1, torch.bfloat16: 2}
CELLS = {"lstm": (0, 4), "gru": (1, 3), "goru": (2, 3), "elman": (3, 1), "elman_relu": (4, 1)}
"""By name: its number in scan.cpp, and its gates."""


class _Scan(ctypes.Structure):
    """`Scan` of scan.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "B", "H")),
        ("lengths", ctypes.c_void_p),
        ("reverse", ctypes.c_int64),
        *((n, ctypes.c_void_p) for n in ("weights", "bias", "h0", "c0", "x", "y", "side")),
        *((name, ctypes.c_int64) for name in ("x_stride", "y_stride")),
        *((name, ctypes.c_void_p) for name in ("zone_h", "zone_c")),
        ("zone_stride", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("dy", "dx", "dq", "dh", "dc")),
        *((name, ctypes.c_int64) for name in ("dy_stride", "dx_stride")),
    )


class Weights(NamedTuple):
    """Those of a layer, all directions; the gates in the order that scan.cpp says."""

    input: Tensor
    """[D, G*H, I]"""
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


def scan(
    cell: str,
    x: Tensor,
    lengths: Tensor,
    weights: Weights,
    h0: Tensor,
    c0: Tensor,
    zones: Zones | None = None,
) -> tuple[Tensor, Tensor]:
    """One layer over padded rows.

    x [T, B, I] in float64, float32 or bfloat16, which all products take; lengths [B] int64 in 1..T;
    h0 and c0 [D, B, H], the state before. Returns the states [T, B, D*H], 0 past a row's length,
    and LSTM's c after each row's last token [D, B, H] in at least float32 (other cells: zeros).

    Raises ValueError if a length or the shape of a state is another.
    """
    steps, rows, _ = x.shape
    directions, units = weights.apart.shape
    for name, state in (("h0", h0), ("c0", c0)):
        if state.shape != (directions, rows, units):
            raise ValueError(f"{name} {[*state.shape]}: is not {[directions, rows, units]}")
    lengths = lengths.to(torch.int64).contiguous()
    if rows and not 1 <= int(lengths.min()) <= int(lengths.max()) <= steps:
        raise ValueError(f"lengths {lengths.tolist()}: are not in 1..{steps}")
    wide = units + -units % _lanes(x.dtype)  # units that stay 0 fill up the registers
    w, h0, c0, zones = _widened(cell, weights, h0, c0, zones, wide - units)
    accumulated = torch.promote_types(x.dtype, torch.float32)
    y, c = _Layer.apply(
        cell,
        x,
        lengths,
        None if zones is None else torch.cat(zones, -1).to(x.dtype),
        w.input.to(x.dtype),
        w.hidden.to(x.dtype),
        w.bias.to(x.dtype),
        w.apart.to(accumulated).contiguous(),
        h0.to(x.dtype).contiguous(),
        c0.to(accumulated).contiguous(),
    )
    if wide > units:
        y, c = y.unflatten(2, (directions, wide))[..., :units].flatten(2), c[..., :units]
    return y, c


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: str,
        x: Tensor,
        lengths: Tensor,
        zones: Tensor | None,
        w_input: Tensor,
        w_hidden: Tensor,
        bias: Tensor,
        apart: Tensor,
        h0: Tensor,
        c0: Tensor,
    ) -> tuple[Tensor, Tensor]:
        steps, rows, _ = x.shape
        directions, _, units = w_hidden.shape
        # [T, B, D*G*H]: what comes into the gates, which the loop turns into the gates
        gates = functional.linear(x, w_input.flatten(0, 1), bias.flatten())
        y = x.new_empty(steps, rows, directions * units)
        kept = c0.dtype if cell == "lstm" else x.dtype
        wanted = steps if CELLS[cell][1] > 1 or zones is not None else 0
        side = x.new_empty((directions, wanted, rows, units), dtype=kept)
        c = torch.zeros_like(c0)
        for d in range(directions):
            weights = _pack_forward(cell, w_hidden[d])
            _call(cell, d, lengths, weights, (h0, c0, apart, gates, y, side), zones)
            if cell == "lstm":
                last = torch.zeros_like(lengths) if d else lengths - 1
                c[d] = side[d][last, torch.arange(rows)]
        ctx.cell = cell
        ctx.save_for_backward(x, lengths, zones, w_input, w_hidden, apart, h0, c0, gates, y, side)
        return y, c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        x, lengths, zones, w_input, w_hidden, apart, h0, c0, gates, y, side = ctx.saved_tensors
        directions, width, units = w_hidden.shape
        dy, dh = dy.contiguous(), torch.zeros_like(c0)
        dc = dc.clone(memory_format=torch.contiguous_format)
        d_gates = torch.empty_like(gates)
        dq = torch.empty_like(side) if ctx.cell in ("gru", "goru") else side
        d_hidden, d_apart = torch.empty_like(w_hidden), torch.zeros_like(apart)
        for d in range(directions):
            weights = _pack_backward(w_hidden[d])
            state, gradients = (h0, c0, apart, gates, y, side), (dy, d_gates, dq, dh, dc)
            _call(ctx.cell, d, lengths, weights, state, zones, gradients)
            own = d_gates[..., d * width : (d + 1) * width]
            through = own if dq is side else torch.cat([own[..., : 2 * units], dq[d]], -1)
            d_hidden[d] = _hidden_gradient(
                through, y[..., d * units : (d + 1) * units], h0[d], lengths, reverse=bool(d)
            )
            if ctx.cell == "gru":
                d_apart[d] = dq[d].sum((0, 1), dtype=apart.dtype)
            elif ctx.cell == "goru":
                third = slice(d * width + 2 * units, (d + 1) * width)
                slope = d_gates[..., third] * gates[..., third].sign()  # [T, B, H]
                d_apart[d] = slope.sum((0, 1), dtype=apart.dtype)
        flat = d_gates.flatten(0, 1)  # [T*B, D*G*H]
        ones = flat.new_ones(1, len(flat))  # their product is faster than a sum over rows
        return (
            None,
            (flat @ w_input.flatten(0, 1)).view_as(x) if ctx.needs_input_grad[1] else None,
            None,
            None,
            (flat.t() @ x.flatten(0, 1)).view_as(w_input),
            d_hidden,
            (ones @ flat).view(directions, width),
            d_apart,
            dh.to(h0.dtype),
            dc if ctx.cell == "lstm" else None,
        )


def _hidden_gradient(
    through: Tensor, states: Tensor, h0: Tensor, lengths: Tensor, *, reverse: bool
) -> Tensor:
    """[G*H, H]: the gradient of all tokens [T, B, G*H] times the states before them. States are 0
    past a row's end, so those before a reversed row's first token need no care but for h0's."""
    now, before = slice(1, None), slice(None, -1)
    if reverse:
        now, before = before, now
    product = through[now].flatten(0, 1).t() @ states[before].flatten(0, 1)
    first = lengths - 1 if reverse else torch.zeros_like(lengths)
    return product.addmm_(through[first, torch.arange(len(lengths))].t(), h0)


def _call(
    cell: str,
    d: int,
    lengths: Tensor,
    weights: Tensor,
    state: tuple[Tensor, ...],
    zones: Tensor | None,
    gradients: tuple[Tensor, ...] = (),
) -> None:
    """Run the loop of direction `d`, backwards if there are gradients; what it reads and writes are
    these tensors."""
    h0, c0, apart, gates, y, side = state
    steps, rows, _ = y.shape
    units, width = h0.shape[2], h0.shape[2] * CELLS[cell][1]

    def at(tensor: Tensor, offset: int) -> int:
        return tensor.data_ptr() + offset * tensor.element_size()

    s = _Scan(T=steps, B=rows, H=units, lengths=lengths.data_ptr(), reverse=d)
    s.weights, s.bias = weights.data_ptr(), apart[d].data_ptr()
    s.h0, s.c0, s.side = h0[d].data_ptr(), c0[d].data_ptr(), side[d].data_ptr()
    s.x, s.x_stride = at(gates, d * width), gates.shape[2]
    s.y, s.y_stride = at(y, d * units), y.shape[2]
    if zones is not None:
        s.zone_stride = zones.shape[2]
        s.zone_h, s.zone_c = at(zones, d * units), at(zones, y.shape[2] + d * units)
    if gradients:
        dy, dx, dq, dh, dc = gradients
        s.dy, s.dy_stride = at(dy, d * units), dy.shape[2]
        s.dx, s.dx_stride = at(dx, d * width), dx.shape[2]
        s.dq, s.dh, s.dc = dq[d].data_ptr(), dh[d].data_ptr(), dc[d].data_ptr()
    loaded = library().loaded
    assert loaded is not None
    failed = loaded.scan(CELLS[cell][0], TYPES[y.dtype], int(bool(gradients)), ctypes.byref(s))
    assert not failed, f"no loop for {cell} in {y.dtype}"


def _widened(
    cell: str, w: Weights, h0: Tensor, c0: Tensor, zones: Zones | None, by: int
) -> tuple[Weights, Tensor, Tensor, Zones | None]:
    """All of these for `by` units more."""
    if not by:
        return w, h0, c0, zones
    directions, units = w.apart.shape

    def gatewise(x: Tensor) -> Tensor:  # [D, G*H, ...]
        split = x.unflatten(1, (CELLS[cell][1], units))
        return functional.pad(split, [0, 0] * (split.dim() - 3) + [0, by]).flatten(1, 2)

    if zones is not None:
        split = (zone.unflatten(2, (directions, units)) for zone in zones)
        zones = Zones(*(functional.pad(zone, [0, by]).flatten(2) for zone in split))
    hidden = functional.pad(gatewise(w.hidden), [0, by])
    apart, h0, c0 = (functional.pad(x, [0, by]) for x in (w.apart, h0, c0))
    return Weights(gatewise(w.input), hidden, gatewise(w.bias), apart), h0, c0, zones


def _lanes(dtype: torch.dtype) -> int:
    return library().vector_bytes // (8 if dtype == torch.float64 else 4)


def _pack_forward(cell: str, weight: Tensor) -> Tensor:
    """[G*H, H] to tiles of M vectors of units of each gate [tiles, H, M, G, lanes]."""
    gates, units, lanes = CELLS[cell][1], weight.shape[1], _lanes(weight.dtype)
    vectors = 4 if gates == 1 and units % (4 * lanes) == 0 else 1
    tiles = weight.t().view(units, gates, -1, vectors, lanes).permute(2, 0, 3, 1, 4)
    return _in_pairs(tiles.flatten(2, 3))


def _pack_backward(weight: Tensor) -> Tensor:
    """[G*H, H] to tiles of M vectors of the states [tiles, G*H, M, lanes]."""
    units, lanes = weight.shape[1], _lanes(weight.dtype)
    vectors = 4 if units % (4 * lanes) == 0 else 1
    return _in_pairs(weight.view(len(weight), -1, vectors, lanes).permute(1, 0, 2, 3))


def _in_pairs(tiles: Tensor) -> Tensor:
    """[tiles, K, N, lanes]; bf16 is multiplied in pairs: [tiles, K/2, N, lanes, 2]."""
    if tiles.dtype == torch.bfloat16:
        tiles = tiles.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2)
    return tiles.contiguous()
