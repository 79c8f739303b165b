"""The loops in C++, for a CPU: tensors to the pointers that scan.cpp wants.

Legend: T tokens of the longest row, B rows, H hidden units, G gates of the cell, D directions.
"""

import ctypes

import torch
from torch import Tensor

from pipeline.kernels.build import TYPES, library
from pipeline.kernels.tensors import Backward, Forward

CELLS = ("lstm", "gru", "goru", "elman", "elman_relu")
"""In the order of scan.cpp."""


def multiple(dtype: torch.dtype) -> int:
    """Of what H has to be one."""
    return library().vector_bytes // (8 if dtype == torch.float64 else 4)


def run(cell: str, forward: Forward, backward: Backward | None = None) -> None:
    """All directions, one after the other, on one thread; backwards if there are gradients."""
    f, loaded = forward, library().loaded
    assert loaded is not None
    steps, rows, _ = f.y.shape
    directions, width, units = f.hidden.shape

    def at(tensor: Tensor, offset: int) -> int:
        return tensor.data_ptr() + offset * tensor.element_size()

    for d in range(directions):
        pack = _pack_forward if backward is None else _pack_backward
        weights = pack(f.hidden[d])
        s = _Scan(T=steps, B=rows, H=units, lengths=f.lengths.data_ptr(), reverse=d)
        s.weights, s.bias = weights.data_ptr(), f.apart[d].data_ptr()
        s.h0, s.c0, s.side = f.h0[d].data_ptr(), f.c0[d].data_ptr(), f.side[d].data_ptr()
        s.x, s.x_stride = at(f.gates, d * width), f.gates.shape[2]
        s.y, s.y_stride = at(f.y, d * units), f.y.shape[2]
        if f.zones is not None:
            s.zone_stride = f.zones.shape[2]
            s.zone_h, s.zone_c = at(f.zones, d * units), at(f.zones, f.y.shape[2] + d * units)
        if backward is not None:
            dy, dx, dq, dh, dc = backward
            s.dy, s.dy_stride = at(dy, d * units), dy.shape[2]
            s.dx, s.dx_stride = at(dx, d * width), dx.shape[2]
            s.dq, s.dh, s.dc = dq[d].data_ptr(), dh[d].data_ptr(), dc[d].data_ptr()
        kind, dtype = CELLS.index(cell), TYPES.index(f.y.dtype)
        failed = loaded.scan(kind, dtype, int(backward is not None), ctypes.byref(s))
        assert not failed, f"no loop for {cell} in {f.y.dtype}"


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


def _pack_forward(weight: Tensor) -> Tensor:
    """[G*H, H] to tiles of M vectors of units of each gate [tiles, H, M, G, lanes]."""
    units, lanes = weight.shape[1], multiple(weight.dtype)
    gates = len(weight) // units
    vectors = 4 if gates == 1 and units % (4 * lanes) == 0 else 1
    tiles = weight.t().view(units, gates, -1, vectors, lanes).permute(2, 0, 3, 1, 4)
    return _in_pairs(tiles.flatten(2, 3))


def _pack_backward(weight: Tensor) -> Tensor:
    """[G*H, H] to tiles of M vectors of the states [tiles, G*H, M, lanes]."""
    units, lanes = weight.shape[1], multiple(weight.dtype)
    vectors = 4 if units % (4 * lanes) == 0 else 1
    return _in_pairs(weight.view(len(weight), -1, vectors, lanes).permute(1, 0, 2, 3))


def _in_pairs(tiles: Tensor) -> Tensor:
    """[tiles, K, N, lanes]; bf16 is multiplied in pairs: [tiles, K/2, N, lanes, 2]."""
    if tiles.dtype == torch.bfloat16:
        tiles = tiles.unflatten(1, (-1, 2)).permute(0, 1, 3, 4, 2)
    return tiles.contiguous()
