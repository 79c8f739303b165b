"""Triton kernels for the token loop of GRU and GORU on a GPU.

A program takes a block of rows in one direction from the first token to the last, so programs never
wait for each other. Its threads synchronize at each step, because the next product needs all units
of the state. The weights are read from the cache again at each step.

Shapes: T tokens of the longest row, B rows, H hidden units (a multiple of N), D directions; M rows
of a program, N units of a tile, K units that one product takes at a time.
"""

import torch
import triton
import triton.language as tl

from pipeline.kernels.tensors import BackwardTensors, ForwardTensors

BLOCK_M, BLOCK_N, BLOCK_K = 16, 32, 32
"""M, N and K. M is the smallest number of rows that tensor cores take, as batches have few rows."""


def hidden_multiple(dtype: torch.dtype) -> int:
    """Return the number of which H must be a multiple."""
    return max(BLOCK_N, BLOCK_K)


def run(cell: str, forward: ForwardTensors, backward: BackwardTensors | None = None) -> None:
    """Run the forward pass, or the backward pass if gradients are given.

    All directions run at once.
    """
    f = forward
    assert cell in ("gru", "goru")
    assert f.zones is None
    steps, rows, _ = f.y.shape
    directions, _, units = f.hidden.shape
    sizes = {"T": steps, "B": rows, "H": units, "D": directions, "MOD_RELU": cell == "goru"}
    blocks = {"M": BLOCK_M, "N": BLOCK_N, "K": BLOCK_K}
    grid = (triton.cdiv(rows, BLOCK_M), directions)
    if backward is None:
        f.y.zero_()
        weights = f.hidden.transpose(1, 2).contiguous()  # [D, H, 3*H]
        _forward[grid](f.lengths, weights, f.candidate_bias, f.h0, f.gates, f.y, f.aux, **sizes,
                       **blocks)  # fmt: skip
        return
    b = backward
    b.d_gates.zero_()
    b.dq.zero_()
    _backward[grid](f.lengths, f.hidden.contiguous(), f.h0, f.gates, f.y, f.aux, b.dy, b.d_gates,
                    b.dq, b.dh, **sizes, **blocks)  # fmt: skip


# T and B differ from batch to batch. Triton would compile variants for 1 and for multiples of 16.
@triton.jit(do_not_specialize=["T", "B"])
def _forward(
    lengths, weights, candidate_bias, h0, gates, y, q,
    T, B, H: tl.constexpr, D: tl.constexpr, MOD_RELU: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Compute the states, by the equations of `Gated` in scan.cpp."""
    d = tl.program_id(1)
    b = tl.program_id(0) * M + tl.arange(0, M)
    length = tl.load(lengths + b, mask=b < B, other=0)
    for step in range(tl.max(length)):
        live = (step < length)[:, None]
        t = tl.where(d == 0, step, length - 1 - step)
        token = t * B + b
        previous = _previous_states(h0, y, step, t, b, d, B, H, D)
        for n in range(0, H, N):
            unit = n + tl.arange(0, N)
            r, z, u = _products(previous, live, weights + d * 3 * H * H + unit, H, M, N, K)
            gate = gates + (token[:, None] * D + d) * 3 * H + unit
            r = tl.sigmoid(tl.load(gate, mask=live, other=0) + r)
            z = tl.sigmoid(tl.load(gate + H, mask=live, other=0) + z)
            bias = tl.load(candidate_bias + d * H + unit)
            if not MOD_RELU:
                u += bias
            a = tl.load(gate + 2 * H, mask=live, other=0) + r * u
            if MOD_RELU:
                magnitude = tl.maximum(
                    tl.abs(a) + 1e-3 + bias, 0.0, propagate_nan=tl.PropagateNan.ALL
                )
                c = tl.where(a == 0, 0.0, tl.where(a < 0, -magnitude, magnitude))
            else:
                c = 2 * tl.sigmoid(2 * a) - 1
            h = tl.load(previous[:, None] + unit, mask=live, other=0)
            tl.store(gate, r, mask=live)
            tl.store(gate + H, z, mask=live)
            tl.store(gate + 2 * H, c, mask=live)
            tl.store(q + ((d * T + t) * B + b)[:, None] * H + unit, u, mask=live)
            tl.store(y + (token[:, None] * D + d) * H + unit, c + z * (h - c), mask=live)
        tl.debug_barrier()


@triton.jit(do_not_specialize=["T", "B"])
def _backward(
    lengths, weights, h0, gates, y, q, dy, d_gates, dq, dh,
    T, B, H: tl.constexpr, D: tl.constexpr, MOD_RELU: tl.constexpr,
    M: tl.constexpr, N: tl.constexpr, K: tl.constexpr,
):  # fmt: skip
    """Compute the gradients of the gates, of q and of the initial state."""
    d = tl.program_id(1)
    b = tl.program_id(0) * M + tl.arange(0, M)
    length = tl.load(lengths + b, mask=b < B, other=0)
    dh_rows = dh + (d * B + b)[:, None] * H
    steps = tl.max(length)
    for number in range(steps):
        step = steps - 1 - number
        live = (step < length)[:, None]
        t = tl.where(d == 0, step, length - 1 - step)
        token = t * B + b
        previous = _previous_states(h0, y, step, t, b, d, B, H, D)
        d_gate_rows = d_gates + (token[:, None] * D + d) * 3 * H
        dq_rows = dq + ((d * T + t) * B + b)[:, None] * H
        for n in range(0, H, N):
            unit = n + tl.arange(0, N)
            gate = gates + (token[:, None] * D + d) * 3 * H + unit
            r = tl.load(gate, mask=live, other=0).to(tl.float32)
            z = tl.load(gate + H, mask=live, other=0).to(tl.float32)
            c = tl.load(gate + 2 * H, mask=live, other=0).to(tl.float32)
            u = tl.load(q + ((d * T + t) * B + b)[:, None] * H + unit, mask=live, other=0)
            h = tl.load(previous[:, None] + unit, mask=live, other=0)
            dy_token = tl.load(dy + (token[:, None] * D + d) * H + unit, mask=live, other=0)
            gradient = dy_token + tl.load(dh_rows + unit, mask=live, other=0)
            slope = tl.where(c == 0, 0.0, 1.0) if MOD_RELU else 1 - c * c
            da = gradient * (1 - z) * slope
            tl.store(d_gate_rows + unit, da * u * r * (1 - r), mask=live)
            tl.store(d_gate_rows + H + unit, gradient * (h - c) * z * (1 - z), mask=live)
            tl.store(d_gate_rows + 2 * H + unit, da, mask=live)
            tl.store(dq_rows + unit, da * r, mask=live)
            tl.store(dh_rows + unit, gradient * z, mask=live)
        tl.debug_barrier()
        for n in range(0, H, N):
            unit = n + tl.arange(0, N)
            weight_rows = weights + d * 3 * H * H + unit
            total = tl.load(dh_rows + unit, mask=live, other=0)
            for k in range(0, 2 * H, K):
                total = _add_product(d_gate_rows + k, live, weight_rows + k * H, H, K, total)
            for k in range(0, H, K):
                total = _add_product(dq_rows + k, live, weight_rows + (2 * H + k) * H, H, K, total)
            tl.store(dh_rows + unit, total, mask=live)
        tl.debug_barrier()


@triton.jit
def _previous_states(h0, y, step, t, b, d, B, H: tl.constexpr, D: tl.constexpr):
    """Return pointers to each row's state before a step: in h0 at the first step, else in y."""
    previous_token = tl.where(d == 0, t - 1, t + 1) * B + b
    return tl.where(step == 0, h0 + (d * B + b) * H, y + (previous_token * D + d) * H)


@triton.jit
def _products(
    previous, live, weights, H: tl.constexpr, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr
):  # fmt: skip
    """Multiply the previous states by one tile of each gate's weights, stored as [H, 3*H]."""
    zero = tl.zeros([M, N], tl.float32)
    r, z, u = zero, zero, zero
    for k in range(0, H, K):
        h = tl.load(previous[:, None] + k + tl.arange(0, K), mask=live, other=0)
        tile = weights + (k + tl.arange(0, K))[:, None] * 3 * H
        r = tl.dot(h, tl.load(tile), r, input_precision="ieee")
        z = tl.dot(h, tl.load(tile + H), z, input_precision="ieee")
        u = tl.dot(h, tl.load(tile + 2 * H), u, input_precision="ieee")
    return r, z, u


@triton.jit
def _add_product(values, live, weights, H: tl.constexpr, K: tl.constexpr, total):
    """Return `total` plus K values of each row times K rows of the weights."""
    k = tl.arange(0, K)
    left = tl.load(values + k, mask=live, other=0)
    return tl.dot(left, tl.load(weights + k[:, None] * H), total, input_precision="ieee")
