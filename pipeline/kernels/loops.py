"""Whole recurrent layers on the CPU: large matrix products around a native loop over the tokens.

Legend: T tokens of the longest row, B rows, I input features, H hidden units, G gates of the cell,
D directions (the second reads each row from its end).
"""

import ctypes
from typing import Any, NamedTuple

import torch
from torch import Tensor
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


def runs(dtype: torch.dtype) -> bool:
    """Whether there is a native loop for this type on this machine."""
    return library().loaded is not None and (dtype != torch.bfloat16 or library().bf16)


def scan(
    cell: str,
    x: Tensor,
    lengths: Tensor,
    weights: Weights,
    h0: Tensor | None = None,
    c0: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """One layer over padded rows.

    x [T, B, I] in float64, float32 or bfloat16, which all products take; lengths [B] int64 in 1..T;
    h0 and c0 [D, B, H], zero if None. Returns the states [T, B, D*H], 0 past a row's length, and
    LSTM's c after each row's last token [D, B, H] in at least float32 (other cells: zeros).
    """
    directions, units = weights.apart.shape
    rows, lanes = x.shape[1], _lanes(x.dtype)
    gates = CELLS[cell][1]
    spare = -units % lanes
    if spare:  # units that stay 0 fill up the registers
        wide = units + spare
        w = Weights(
            _wider(weights.input.unflatten(1, (gates, units)), 2, spare).flatten(1, 2),
            _wider(_wider(weights.hidden.unflatten(1, (gates, units)), 2, spare), 3, spare).flatten(
                1, 2
            ),
            _wider(weights.bias.unflatten(1, (gates, units)), 2, spare).flatten(1),
            _wider(weights.apart, 1, spare),
        )
        h, c = (s if s is None else _wider(s, 2, spare) for s in (h0, c0))
        y, last = scan(cell, x, lengths, w, h, c)
        return y.unflatten(2, (directions, wide))[..., :units].flatten(2), last[..., :units]
    accumulated = torch.promote_types(x.dtype, torch.float32)
    zero = x.new_zeros(directions, rows, units)
    return _Layer.apply(
        cell,
        x,
        lengths,
        weights.input.to(x.dtype),
        weights.hidden.to(x.dtype),
        weights.bias.to(x.dtype),
        weights.apart.to(accumulated),
        zero if h0 is None else h0.to(x.dtype),
        zero.to(accumulated) if c0 is None else c0.to(accumulated),
    )


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: str,
        x: Tensor,
        lengths: Tensor,
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
        side = x.new_empty(
            (directions, steps, rows, units), dtype=c0.dtype if cell == "lstm" else x.dtype
        )
        c = torch.zeros_like(c0)
        for d in range(directions):
            _call(
                cell,
                d,
                lengths,
                _pack_forward(cell, w_hidden[d]),
                (h0, c0, apart, gates, y, side),
                back=False,
            )
            if cell == "lstm":
                last = lengths - 1 if d == 0 else torch.zeros_like(lengths)
                c[d] = side[d][last, torch.arange(rows)]
        ctx.cell = cell
        ctx.save_for_backward(x, lengths, w_input, w_hidden, apart, h0, c0, gates, y, side)
        return y, c

    @staticmethod
    def backward(ctx: Any, dy: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        x, lengths, w_input, w_hidden, apart, h0, c0, gates, y, side = ctx.saved_tensors
        directions, width, units = w_hidden.shape
        d_gates, dh, dc = torch.empty_like(gates), torch.zeros_like(c0), dc.clone()
        dq = torch.empty_like(side) if ctx.cell in ("gru", "goru") else side
        d_hidden, d_apart = torch.empty_like(w_hidden), torch.zeros_like(apart)
        for d in range(directions):
            _call(
                ctx.cell,
                d,
                lengths,
                _pack_backward(w_hidden[d]),
                (h0, c0, apart, gates, y, side),
                (dy.contiguous(), d_gates, dq, dh, dc),
                back=True,
            )
            through = d_gates[..., d * width : (d + 1) * width]
            if dq is not side:
                through = torch.cat([through[..., : 2 * units], dq[d]], -1)
            states = y[..., d * units : (d + 1) * units]
            now, before = (slice(1, None), slice(None, -1))[:: -1 if d else 1]
            torch.mm(through[now].flatten(0, 1).t(), states[before].flatten(0, 1), out=d_hidden[d])
            rows = torch.arange(len(lengths))
            first = lengths - 1 if d else torch.zeros_like(lengths)
            d_hidden[d].addmm_(through[first, rows].t(), h0[d])
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
            (flat @ w_input.flatten(0, 1)).view_as(x),
            None,
            (flat.t() @ x.flatten(0, 1)).view_as(w_input),
            d_hidden,
            (ones @ flat).view(directions, width),
            d_apart,
            dh.to(h0.dtype),
            dc if ctx.cell == "lstm" else None,
        )


def _call(
    cell: str,
    d: int,
    lengths: Tensor,
    weights: Tensor,
    state: tuple[Tensor, ...],
    gradients: tuple[Tensor, ...] = (),
    *,
    back: bool,
) -> None:
    """Run the loop of direction `d`; what it reads and writes are these tensors."""
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
    if back:
        dy, dx, dq, dh, dc = gradients
        s.dy, s.dy_stride = at(dy, d * units), dy.shape[2]
        s.dx, s.dx_stride = at(dx, d * width), dx.shape[2]
        s.dq, s.dh, s.dc = dq[d].data_ptr(), dh[d].data_ptr(), dc[d].data_ptr()
    loaded = library().loaded
    assert loaded is not None
    failed = loaded.scan(CELLS[cell][0], TYPES[y.dtype], int(back), ctypes.byref(s))
    assert not failed, f"no loop for {cell} in {y.dtype}"


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


def _wider(x: Tensor, dim: int, by: int) -> Tensor:
    """x with `by` zeros more at the end of a dimension."""
    return functional.pad(x, [0, 0] * (x.dim() - 1 - dim) + [0, by])
