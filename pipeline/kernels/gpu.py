"""The loop of GRU and GORU in Triton, for a GPU.

A program takes some rows of one direction from the first token to the last, so that programs need
not wait for each other; its threads do, at each step, as all units of a state must be there before
the next product. Weights are read anew at each step, from the cache.

Legend: T tokens of the longest row, B rows, H hidden units (a multiple of N), D directions; M rows
of a program, N units of a tile, K units that a product takes at a time.
"""

import torch
import triton
import triton.language as tl

from pipeline.kernels.tensors import Backward, Forward

ROWS, UNITS, DEPTH = 16, 32, 32
"""M, N and K: the least that tensor cores take in rows, as there are few."""


def multiple(dtype: torch.dtype) -> int:
    """Of what H has to be one."""
    return max(UNITS, DEPTH)


def run(cell: str, forward: Forward, backward: Backward | None = None) -> None:
    """All directions at once; backwards if there are gradients."""
    f = forward
    assert cell in ("gru", "goru")
    assert f.zones is None
    steps, rows, _ = f.y.shape
    directions, _, units = f.hidden.shape
    sizes = {"T": steps, "B": rows, "H": units, "D": directions, "MOD_RELU": cell == "goru"}
    tiles = {"M": ROWS, "N": UNITS, "K": DEPTH}
    grid = (triton.cdiv(rows, ROWS), directions)
    if backward is None:
        f.y.zero_()
        weights = f.hidden.transpose(1, 2).contiguous()  # [D, H, 3*H]
        _forward[grid](f.lengths, weights, f.apart, f.h0, f.gates, f.y, f.side, **sizes, **tiles)
        return
    b = backward
    b.d_gates.zero_()
    b.dq.zero_()
    _backward[grid](f.lengths, f.hidden.contiguous(), f.h0, f.gates, f.y, f.side, b.dy, b.d_gates,
                    b.dq, b.dh, **sizes, **tiles)  # fmt: skip


@triton.jit
def _forward(
    lengths, weights, apart, h0, gates, y, q,
    T, B, H: tl.constexpr, D: tl.constexpr, MOD_RELU: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """The equations are those of `Gated` in scan.cpp."""
    d = tl.program_id(1)
    b = tl.program_id(0) * M + tl.arange(0, M)
    length = tl.load(lengths + b, mask=b < B, other=0)
    for step in range(tl.max(length)):
        live = (step < length)[:, None]
        t = tl.where(d == 0, step, length - 1 - step)
        here = t * B + b
        before = _before(h0, y, step, t, b, d, B, H, D)
        for n in range(0, H, N):
            unit = n + tl.arange(0, N)
            r, z, u = _products(before, live, weights + d * 3 * H * H + unit, H, M, N, K)
            own = gates + (here[:, None] * D + d) * 3 * H + unit
            r = tl.sigmoid(tl.load(own, mask=live, other=0) + r)
            z = tl.sigmoid(tl.load(own + H, mask=live, other=0) + z)
            bias = tl.load(apart + d * H + unit)
            if not MOD_RELU:
                u += bias
            a = tl.load(own + 2 * H, mask=live, other=0) + r * u
            if MOD_RELU:
                size = tl.maximum(tl.abs(a) + 1e-3 + bias, 0.0, propagate_nan=tl.PropagateNan.ALL)
                c = tl.where(a == 0, 0.0, tl.where(a < 0, -size, size))
            else:
                c = 2 * tl.sigmoid(2 * a) - 1
            h = tl.load(before[:, None] + unit, mask=live, other=0)
            tl.store(own, r, mask=live)
            tl.store(own + H, z, mask=live)
            tl.store(own + 2 * H, c, mask=live)
            tl.store(q + ((d * T + t) * B + b)[:, None] * H + unit, u, mask=live)
            tl.store(y + (here[:, None] * D + d) * H + unit, c + z * (h - c), mask=live)
        tl.debug_barrier()


@triton.jit
def _backward(
    lengths, weights, h0, gates, y, q, dy, d_gates, dq, dh,
    T, B, H: tl.constexpr, D: tl.constexpr, MOD_RELU: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    d = tl.program_id(1)
    b = tl.program_id(0) * M + tl.arange(0, M)
    length = tl.load(lengths + b, mask=b < B, other=0)
    carried = dh + (d * B + b)[:, None] * H
    last = tl.max(length)
    for number in range(last):
        step = last - 1 - number
        live = (step < length)[:, None]
        t = tl.where(d == 0, step, length - 1 - step)
        here = t * B + b
        before = _before(h0, y, step, t, b, d, B, H, D)
        through = d_gates + (here[:, None] * D + d) * 3 * H
        aside = dq + ((d * T + t) * B + b)[:, None] * H
        for n in range(0, H, N):
            unit = n + tl.arange(0, N)
            own = gates + (here[:, None] * D + d) * 3 * H + unit
            r = tl.load(own, mask=live, other=0).to(tl.float32)
            z = tl.load(own + H, mask=live, other=0).to(tl.float32)
            c = tl.load(own + 2 * H, mask=live, other=0).to(tl.float32)
            u = tl.load(q + ((d * T + t) * B + b)[:, None] * H + unit, mask=live, other=0)
            h = tl.load(before[:, None] + unit, mask=live, other=0)
            above = tl.load(dy + (here[:, None] * D + d) * H + unit, mask=live, other=0)
            gradient = above + tl.load(carried + unit, mask=live, other=0)
            slope = tl.where(c == 0, 0.0, 1.0) if MOD_RELU else 1 - c * c
            da = gradient * (1 - z) * slope
            tl.store(through + unit, da * u * r * (1 - r), mask=live)
            tl.store(through + H + unit, gradient * (h - c) * z * (1 - z), mask=live)
            tl.store(through + 2 * H + unit, da, mask=live)
            tl.store(aside + unit, da * r, mask=live)
            tl.store(carried + unit, gradient * z, mask=live)
        tl.debug_barrier()
        for n in range(0, H, N):
            unit = n + tl.arange(0, N)
            rows = weights + d * 3 * H * H + unit
            total = tl.load(carried + unit, mask=live, other=0)
            for k in range(0, 2 * H, K):
                total = _add_product(through + k, live, rows + k * H, H, K, total)
            for k in range(0, H, K):
                total = _add_product(aside + k, live, rows + (2 * H + k) * H, H, K, total)
            tl.store(carried + unit, total, mask=live)
        tl.debug_barrier()


@triton.jit
def _before(h0, y, step, t, b, d, B, H: tl.constexpr, D: tl.constexpr):
    """Where the states before a step lie."""
    there = tl.where(d == 0, t - 1, t + 1) * B + b
    return tl.where(step == 0, h0 + (d * B + b) * H, y + (there * D + d) * H)


@triton.jit
def _products(
    before, live, weights, H: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr
):  # fmt: skip
    """h' times a tile of units of each gate, of weights that lie as [H, 3*H]."""
    zero = tl.zeros([M, N], tl.float32)
    r, z, u = zero, zero, zero
    for k in range(0, H, K):
        h = tl.load(before[:, None] + k + tl.arange(0, K), mask=live, other=0)
        tile = weights + (k + tl.arange(0, K))[:, None] * 3 * H
        r = tl.dot(h, tl.load(tile), r, input_precision="ieee")
        z = tl.dot(h, tl.load(tile + H), z, input_precision="ieee")
        u = tl.dot(h, tl.load(tile + 2 * H), u, input_precision="ieee")
    return r, z, u


@triton.jit
def _add_product(values, live, weights, H: tl.constexpr, K: tl.constexpr, total):
    """Add K values of each row times K rows of weights."""
    k = tl.arange(0, K)
    left = tl.load(values + k, mask=live, other=0)
    return tl.dot(left, tl.load(weights + k[:, None] * H), total, input_precision="ieee")
