"""Whole recurrent layers: large matrix products around a loop over the tokens.

The loop runs in C++ on a CPU (native.py) and in Triton on a GPU (gpu.py).

Shapes: T tokens of the longest row, B rows, I input features, H hidden units, G gates of the cell,
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
from pipeline.kernels.tensors import BackwardTensors, ForwardTensors, Weights, Zones

TRITON_CELLS = ("goru",)
"""Cells that run in Triton on a GPU; for the others PyTorch has fused layers."""


def should_use(
    cell: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    zoneout: bool = False,
    initial_state: bool = False,
) -> bool:
    """Return whether a layer should run by `scan` rather than by PyTorch operations.

    `initial_state` means that the layer starts from a given state instead of zeros, so that its
    final state matters too.
    """
    if device.type == "cpu":
        prefer_torch = _torch_is_faster(cell, dtype) and not zoneout and not initial_state
        return not prefer_torch and library().supports(dtype)
    supported = cell in TRITON_CELLS and not zoneout and dtype != torch.float64
    return supported and device.type == "cuda" and not _triton_error(cell, device, dtype)


def describe(
    cell: str,
    device: torch.device,
    dtype: torch.dtype,
    *,
    zoneout: bool = False,
    fused: bool = True,
) -> str:
    """Describe, for the log, how a cell's layers run, with the reason if it is a fallback.

    `cell` is empty if the cell has no loop here. `fused` means that PyTorch has a fused layer.
    """
    slow = "PyTorch operations, one token at a time, which is slow"
    if not cell and (zoneout or not fused):
        return f"{slow} (the cell has no kernel)"
    if cell and device.type == "cpu" and (zoneout or not _torch_is_faster(cell, dtype)):
        return library().describe(dtype)
    if device.type == "cpu" or (cell not in TRITON_CELLS and not zoneout):
        return "PyTorch layers"
    if should_use(cell, device, dtype, zoneout=zoneout):
        return "Triton loops"
    reason = "zoneout has no GPU kernel" if zoneout else _triton_error(cell, device, dtype)
    return f"{slow} ({reason})"


@cache
def _triton_error(cell: str, device: torch.device, dtype: torch.dtype) -> str:
    """Return why a cell's Triton kernels do not run on a device, or an empty string."""
    if importlib.util.find_spec("triton") is None:
        return "Triton is not installed"
    units, width = 32, 3 * 32
    x = torch.zeros(2, 1, 1, device=device, dtype=dtype, requires_grad=True)
    shapes = (width, 1), (width, units), (width,), (units,)
    w_input, hidden, bias, candidate_bias = (x.new_zeros(1, *shape) for shape in shapes)
    weights = Weights(w_input, hidden, bias, candidate_bias)
    state = x.new_zeros(1, 1, units)
    try:
        with torch.enable_grad(), torch.autocast(device.type, enabled=False):
            lengths = torch.full((1,), 2, device=device)
            y, _ = scan(cell, x, lengths, weights, state, state)
            y.sum().backward()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # Triton raises compilation errors of many types
        return (str(error).splitlines() or [type(error).__name__])[0]
    return ""


def prepare(weights: Weights, dtype: torch.dtype) -> Weights:
    """Return weights in the data types that `scan` needs and, on a CPU, also in its memory order.

    `scan` gives the same results for weights that are not prepared, but converts them in each call.
    """
    wide = torch.promote_types(dtype, torch.float32)
    candidate_bias = weights.candidate_bias.to(wide).contiguous()
    hidden = weights.hidden.to(dtype)
    packed: tuple[Tensor, ...] = ()
    if hidden.device.type == "cpu" and hidden.shape[2] % native.hidden_multiple(dtype) == 0:
        packed = tuple(map(native.pack_forward, hidden))
    return Weights(weights.input.to(dtype), hidden, weights.bias.to(dtype), candidate_bias, packed)


def _torch_is_faster(cell: str, dtype: torch.dtype) -> bool:
    """Return whether PyTorch's CPU layer is at least as fast: true for LSTM in fp32.

    That layer is oneDNN's, which is faster from 128 units on and as fast below
    (benchmarks/cells.py). The memory that it returns for rows shorter than the batch is unusable.
    """
    return cell == "lstm" and dtype == torch.float32


def _backend(device: torch.device) -> ModuleType:
    """Return the module that runs the loop on a device."""
    if device.type == "cpu":
        return native
    return importlib.import_module("pipeline.kernels.gpu")  # Triton comes with PyTorch for CUDA


def scan(
    cell: str,
    x: Tensor,
    lengths: Tensor,
    weights: Weights,
    h0: Tensor,
    c0: Tensor,
    zones: Zones | None = None,
) -> tuple[Tensor, Tensor]:
    """Run one layer over a padded batch.

    Takes x [T, B, I] in a data type that the loop supports, in which all products are computed;
    lengths [B] int64 in 1..T; the initial states h0 and c0 [D, B, H]. Returns the hidden states
    [T, B, D*H], 0 past a row's length, and LSTM's memory c after each row's last token [D, B, H]
    in at least float32 (zeros for other cells).

    Raises ValueError if a state has the wrong shape or, on a CPU, if a length is out of range. On
    a GPU lengths are not checked, as reading them would synchronize with the device.
    """
    steps, rows, _ = x.shape
    directions, units = weights.candidate_bias.shape
    for name, state in (("h0", h0), ("c0", c0)):
        if state.shape != (directions, rows, units):
            expected = [directions, rows, units]
            raise ValueError(f"{name} has shape {[*state.shape]}; expected {expected}")
    lengths = lengths.to(torch.int64).contiguous()
    if x.device.type == "cpu" and rows and not 1 <= lengths.min() <= lengths.max() <= steps:
        raise ValueError(f"lengths {lengths.tolist()}: expected 1..{steps}")
    # Units that stay 0 fill the vector registers.
    padding = -units % _backend(x.device).hidden_multiple(x.dtype)
    w, h0, c0, zones = _pad_units(weights, h0, c0, zones, padding)
    wide = torch.promote_types(x.dtype, torch.float32)
    y, c = _Layer.apply(
        cell,
        x,
        lengths,
        None if zones is None else torch.cat(zones, -1).to(x.dtype),
        w.input.to(x.dtype),
        w.hidden.to(x.dtype),
        w.bias.to(x.dtype),
        w.candidate_bias.to(wide).contiguous(),
        h0.to(x.dtype).contiguous(),
        c0.to(wide).contiguous(),
        w.packed,
    )
    if padding:
        y, c = y.unflatten(2, (directions, -1))[..., :units].flatten(2), c[..., :units]
    return y, c


class _Layer(torch.autograd.Function):
    """A layer whose gradients are computed by the backward loop and a few large products."""

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
        candidate_bias: Tensor,
        h0: Tensor,
        c0: Tensor,
        packed: tuple[Tensor, ...],
    ) -> tuple[Tensor, Tensor]:
        steps, rows, _ = x.shape
        directions, _, units = w_hidden.shape
        # [T, B, D*G*H]: the input's part of the gates, overwritten by the loop with the gates
        gates = functional.linear(x, w_input.flatten(0, 1), bias.flatten())
        y = x.new_empty(steps, rows, directions * units)
        aux_dtype = c0.dtype if cell == "lstm" else x.dtype
        aux_steps = steps if not cell.startswith("elman") or zones is not None else 0
        aux = x.new_empty((directions, aux_steps, rows, units), dtype=aux_dtype)
        c = torch.zeros_like(c0)
        tensors = ForwardTensors(lengths, w_hidden, candidate_bias, h0, c0, gates, y, aux, zones)
        _backend(x.device).run(cell, tensors, **({"packed": packed} if packed else {}))
        for d in range(directions) if cell == "lstm" else ():
            last = torch.zeros_like(lengths) if d else lengths - 1
            c[d] = aux[d][last, torch.arange(rows)]
        ctx.cell = cell
        ctx.save_for_backward(x, w_input, *tensors)
        return y, c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor, dc: Tensor) -> tuple[Tensor | None, ...]:
        x, w_input, *saved = ctx.saved_tensors
        tensors = ForwardTensors(*saved)
        lengths, w_hidden, candidate_bias, h0, c0, gates, y, aux, _ = tensors
        directions, width, units = w_hidden.shape
        dy, dh = dy.contiguous(), torch.zeros_like(c0)
        dc = dc.clone(memory_format=torch.contiguous_format)
        d_gates = torch.empty_like(gates)
        dq = torch.empty_like(aux) if ctx.cell in ("gru", "goru") else aux
        d_hidden, d_bias = torch.empty_like(w_hidden), torch.zeros_like(candidate_bias)
        _backend(x.device).run(ctx.cell, tensors, BackwardTensors(dy, d_gates, dq, dh, dc))
        for d in range(directions):
            d_products = d_gates[..., d * width : (d + 1) * width]  # of U h' in all gates
            if dq is not aux:
                d_products = torch.cat([d_products[..., : 2 * units], dq[d]], -1)
            d_hidden[d] = _hidden_gradient(
                d_products, y[..., d * units : (d + 1) * units], h0[d], lengths, reverse=bool(d)
            )
            if ctx.cell == "gru":
                d_bias[d] = dq[d].sum((0, 1), dtype=candidate_bias.dtype)
            elif ctx.cell == "goru":
                candidate = slice(d * width + 2 * units, (d + 1) * width)
                per_token = d_gates[..., candidate] * gates[..., candidate].sign()  # [T, B, H]
                d_bias[d] = per_token.sum((0, 1), dtype=candidate_bias.dtype)
        flat = d_gates.flatten(0, 1)  # [T*B, D*G*H]
        ones = flat.new_ones(1, len(flat))  # multiplying by ones is faster than summing over rows
        return (
            None,
            (flat @ w_input.flatten(0, 1)).view_as(x) if ctx.needs_input_grad[1] else None,
            None,
            None,
            (flat.t() @ x.flatten(0, 1)).view_as(w_input),
            d_hidden,
            (ones @ flat).view(directions, width),
            d_bias,
            dh.to(h0.dtype),
            dc if ctx.cell == "lstm" else None,
            None,
        )


def _hidden_gradient(
    d_products: Tensor, states: Tensor, h0: Tensor, lengths: Tensor, *, reverse: bool
) -> Tensor:
    """Return the gradient of the recurrent weights [G*H, H].

    It is the sum over all tokens of the gradient of U h' [T, B, G*H] times h', the previous state.
    States are 0 past a row's end, so a reversed row's first token needs no special case except for
    h0.
    """
    current, previous = slice(1, None), slice(None, -1)
    if reverse:
        current, previous = previous, current
    product = d_products[current].flatten(0, 1).t() @ states[previous].flatten(0, 1)
    first = lengths - 1 if reverse else torch.zeros_like(lengths)
    rows = torch.arange(len(lengths), device=first.device)
    return product.addmm_(d_products[first, rows].t(), h0)


def _pad_units(
    w: Weights, h0: Tensor, c0: Tensor, zones: Zones | None, padding: int
) -> tuple[Weights, Tensor, Tensor, Zones | None]:
    """Add `padding` hidden units, all of them 0, to every tensor."""
    if not padding:
        return w, h0, c0, zones
    directions, units = w.candidate_bias.shape

    def pad_gates(x: Tensor) -> Tensor:  # [D, G*H, ...]
        gates = x.unflatten(1, (-1, units))
        return functional.pad(gates, [0, 0] * (gates.dim() - 3) + [0, padding]).flatten(1, 2)

    if zones is not None:
        by_direction = (zone.unflatten(2, (directions, units)) for zone in zones)
        zones = Zones(*(functional.pad(zone, [0, padding]).flatten(2) for zone in by_direction))
    hidden = functional.pad(pad_gates(w.hidden), [0, padding])
    bias, h0, c0 = (functional.pad(x, [0, padding]) for x in (w.candidate_bias, h0, c0))
    return Weights(pad_gates(w.input), hidden, pad_gates(w.bias), bias), h0, c0, zones
