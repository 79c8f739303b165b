"""Whole recurrent layers: large matrix products around a loop over the tokens, which runs in C++ on
a CPU (native.py) and in Triton on a GPU (gpu.py).

Legend: T tokens of the longest row, B rows, I input features, H hidden units, G gates of the cell,
D directions (the second reads each row from its end).
"""

import importlib
import importlib.util
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from pipeline.kernels import native
from pipeline.kernels.build import library
from pipeline.kernels.tensors import Backward, Forward, Weights, Zones

ON_A_GPU = ("goru",)
"""Cells that run by gpu.py there; for the others torch has layers of its own."""


def runs(
    cell: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    zoned: bool = False,
    carried: bool = False,
) -> bool:
    """Whether the loop here is the one to take for a cell in this type, with zoneout or without,
    from a state that is carried on or from none."""
    if device.type == "cpu":
        by_torch = _torch_is_faster(cell, dtype) and not zoned and not carried
        return not by_torch and library().runs(dtype)
    there = cell in ON_A_GPU and not zoned and dtype != torch.float64
    return there and device.type == "cuda" and _triton_is_there()


def described(cell: str, device: torch.device, dtype: torch.dtype, *, zoned: bool = False) -> str:
    """By what loop the layers of a cell run here, and why not by another."""
    if device.type == "cpu" and (zoned or not _torch_is_faster(cell, dtype)):
        return library().described(dtype)
    return "loops in Triton" if runs(cell, device, dtype, zoned=zoned) else "torch's own loops"


@cache
def _triton_is_there() -> bool:
    return importlib.util.find_spec("triton") is not None


def _torch_is_faster(cell: str, dtype: torch.dtype) -> bool:
    """LSTM in fp32: torch's of a CPU is oneDNN's, which is faster from 128 units on, and elsewhere
    as fast (benchmarks/cells.py). The memory that it leaves of shorter rows is of no use."""
    return cell in ("lstm", "grid_lstm") and dtype == torch.float32


def _backend(device: torch.device) -> ModuleType:
    if device.type == "cpu":
        return native
    return importlib.import_module("pipeline.kernels.gpu")  # Triton is where torch for CUDA is


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

    x [T, B, I] in a type that `runs` here, which all products take; lengths [B] int64 in 1..T;
    h0 and c0 [D, B, H], the state before. Returns the states [T, B, D*H], 0 past a row's length,
    and LSTM's c after each row's last token [D, B, H] in at least float32 (other cells: zeros).

    Raises ValueError if the shape of a state is another, or a length on a CPU; to read those of a
    GPU would be to wait for it.
    """
    steps, rows, _ = x.shape
    directions, units = weights.apart.shape
    for name, state in (("h0", h0), ("c0", c0)):
        if state.shape != (directions, rows, units):
            raise ValueError(f"{name} {[*state.shape]}: is not {[directions, rows, units]}")
    lengths = lengths.to(torch.int64).contiguous()
    if x.device.type == "cpu" and rows and not 1 <= lengths.min() <= lengths.max() <= steps:
        raise ValueError(f"lengths {lengths.tolist()}: are not in 1..{steps}")
    more = -units % _backend(x.device).multiple(x.dtype)  # units that stay 0 fill up the registers
    w, h0, c0, zones = _widened(weights, h0, c0, zones, more)
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
    if more:
        y, c = y.unflatten(2, (directions, -1))[..., :units].flatten(2), c[..., :units]
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
        wanted = steps if not cell.startswith("elman") or zones is not None else 0
        side = x.new_empty((directions, wanted, rows, units), dtype=kept)
        c = torch.zeros_like(c0)
        done = Forward(lengths, w_hidden, apart, h0, c0, gates, y, side, zones)
        _backend(x.device).run(cell, done)
        for d in range(directions) if cell == "lstm" else ():
            last = torch.zeros_like(lengths) if d else lengths - 1
            c[d] = side[d][last, torch.arange(rows)]
        ctx.cell = cell
        ctx.save_for_backward(x, w_input, *done)
        return y, c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        x, w_input, *saved = ctx.saved_tensors
        lengths, w_hidden, apart, h0, c0, gates, y, side, _ = done = Forward(*saved)
        directions, width, units = w_hidden.shape
        dy, dh = dy.contiguous(), torch.zeros_like(c0)
        dc = dc.clone(memory_format=torch.contiguous_format)
        d_gates = torch.empty_like(gates)
        dq = torch.empty_like(side) if ctx.cell in ("gru", "goru") else side
        d_hidden, d_apart = torch.empty_like(w_hidden), torch.zeros_like(apart)
        _backend(x.device).run(ctx.cell, done, Backward(dy, d_gates, dq, dh, dc))
        for d in range(directions):
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
    return product.addmm_(through[first, torch.arange(len(lengths), device=first.device)].t(), h0)


def _widened(
    w: Weights, h0: Tensor, c0: Tensor, zones: Zones | None, by: int
) -> tuple[Weights, Tensor, Tensor, Zones | None]:
    """All of these for `by` units more."""
    if not by:
        return w, h0, c0, zones
    directions, units = w.apart.shape

    def gatewise(x: Tensor) -> Tensor:  # [D, G*H, ...]
        split = x.unflatten(1, (-1, units))
        return functional.pad(split, [0, 0] * (split.dim() - 3) + [0, by]).flatten(1, 2)

    if zones is not None:
        split = (zone.unflatten(2, (directions, units)) for zone in zones)
        zones = Zones(*(functional.pad(zone, [0, by]).flatten(2) for zone in split))
    hidden = functional.pad(gatewise(w.hidden), [0, by])
    apart, h0, c0 = (functional.pad(x, [0, by]) for x in (w.apart, h0, c0))
    return Weights(gatewise(w.input), hidden, gatewise(w.bias), apart), h0, c0, zones
