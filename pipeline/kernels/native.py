"""Runs the C++ loops on a CPU: turns tensors into the pointers that scan.cpp takes.

Shapes: T tokens of the longest row, B rows, H hidden units, G gates of the cell, D directions.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.kernels.build import DTYPES, library
from pipeline.kernels.tensors import BackwardTensors, ForwardTensors

CELLS = ("lstm", "gru", "goru", "elman", "elman_relu")
"""Cells in the order of their numbers in scan.cpp."""


def hidden_multiple(dtype: torch.dtype) -> int:
    """Return the number of which H must be a multiple: the lanes of a vector register."""
    return library().vector_bytes // (8 if dtype == torch.float64 else 4)


def run(
    cell: str,
    forward: ForwardTensors,
    backward: BackwardTensors | None = None,
    *,
    packed: Sequence[Tensor] = (),
) -> None:
    """Run the forward pass, or the backward pass if gradients are given.

    `packed` has the results of `pack_forward` for each direction, if they are known. Directions
    run one after the other, on one thread.
    """
    f, loaded = forward, library().loaded
    assert loaded is not None
    steps, rows, _ = f.y.shape
    directions, width, units = f.hidden.shape

    def pointer(tensor: Tensor, offset: int) -> int:
        return tensor.data_ptr() + offset * tensor.element_size()

    for d in range(directions):
        pack = pack_forward if backward is None else _pack_backward
        weights = packed[d] if packed and backward is None else pack(f.hidden[d])
        s = _Scan(T=steps, B=rows, H=units, lengths=f.lengths.data_ptr(), reverse=d)
        s.weights, s.bias = weights.data_ptr(), f.candidate_bias[d].data_ptr()
        s.h0, s.c0, s.aux = f.h0[d].data_ptr(), f.c0[d].data_ptr(), f.aux[d].data_ptr()
        s.gates, s.gates_stride = pointer(f.gates, d * width), f.gates.shape[2]
        s.y, s.y_stride = pointer(f.y, d * units), f.y.shape[2]
        if f.zones is not None:
            s.zone_stride = f.zones.shape[2]
            s.zone_h = pointer(f.zones, d * units)
            s.zone_c = pointer(f.zones, f.y.shape[2] + d * units)
        if backward is not None:
            dy, d_gates, dq, dh, dc = backward
            s.dy, s.dy_stride = pointer(dy, d * units), dy.shape[2]
            s.d_gates, s.d_gates_stride = pointer(d_gates, d * width), d_gates.shape[2]
            s.dq, s.dh, s.dc = dq[d].data_ptr(), dh[d].data_ptr(), dc[d].data_ptr()
        cell_number, dtype_number = CELLS.index(cell), DTYPES.index(f.y.dtype)
        is_backward = int(backward is not None)
        failed = loaded.scan(cell_number, dtype_number, is_backward, ctypes.byref(s))
        assert not failed, f"no loop for {cell} in {f.y.dtype}"


class _Scan(ctypes.Structure):
    """The struct `Scan` of scan.cpp."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in ("T", "B", "H")),
        ("lengths", ctypes.c_void_p),
        ("reverse", ctypes.c_int64),
        *((n, ctypes.c_void_p) for n in ("weights", "bias", "h0", "c0", "gates", "y", "aux")),
        *((name, ctypes.c_int64) for name in ("gates_stride", "y_stride")),
        *((name, ctypes.c_void_p) for name in ("zone_h", "zone_c")),
        ("zone_stride", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("dy", "d_gates", "dq", "dh", "dc")),
        *((name, ctypes.c_int64) for name in ("dy_stride", "d_gates_stride")),
    )


def pack_forward(weight: Tensor) -> Tensor:
    """Pack [G*H, H] into tiles for the forward pass: [tiles, H, M*G, lanes].

    A tile has M vectors of units of each gate.
    """
    units, lanes = weight.shape[1], hidden_multiple(weight.dtype)
    gates = len(weight) // units
    vectors = 4 if gates == 1 and units % (4 * lanes) == 0 else 1
    tiles = weight.t().view(units, gates, -1, vectors, lanes).permute(2, 0, 3, 1, 4)
    return _interleave_bf16(tiles.flatten(2, 3))


def _pack_backward(weight: Tensor) -> Tensor:
    """Pack [G*H, H] into tiles for the backward pass: [tiles, G*H, M, lanes].

    A tile has M vectors of units of the hidden state.
    """
    units, lanes = weight.shape[1], hidden_multiple(weight.dtype)
    vectors = 4 if units % (4 * lanes) == 0 else 1
    return _interleave_bf16(weight.view(len(weight), -1, vectors, lanes).permute(1, 0, 2, 3))


def _interleave_bf16(tiles: Tensor) -> Tensor:
    """Make [tiles, K, N, lanes] contiguous; bf16, which is multiplied in pairs, becomes
    [tiles, K/2, N, lanes, 2]."""
    if tiles.dtype == torch.bfloat16:
        tiles = tiles.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2)
    return tiles.contiguous()
