"""Recurrent cells as ONNX operators, and as loops (Scan) where no operator exists.

Shapes: T tokens of the longest row, B rows, I input features, H hidden units, G gates, D directions
of a layer.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.export.onnx.graph import Graph, Value
from pipeline.export.onnx.refusals import writer_of
from pipeline.models.cell import Cell
from pipeline.models.cells.elman import Elman
from pipeline.models.cells.goru import MOD_RELU_EPSILON, Goru
from pipeline.models.cells.grid_lstm import GridLstm
from pipeline.models.cells.gru import Gru
from pipeline.models.cells.lstm import Lstm

NAMES = ("lstm", "gru", "elman", "goru", "grid_lstm")


class State(NamedTuple):
    """A layer's recurrent state, as `LayerState`."""

    h: Value
    """[D, B, H]"""
    c: Value | None = None
    """[D, B, H]; None for cells without a memory."""


class Operator(NamedTuple):
    """A recurrent operator of ONNX and how a cell's weights are ordered for it."""

    kind: str
    gates: tuple[int, ...]
    """For each gate of the operator, the index of the cell's gate."""


OPERATORS = {
    Lstm: Operator("LSTM", (0, 3, 1, 2)),  # i, o, f, c of i, f, g, o
    GridLstm: Operator("LSTM", (0, 3, 1, 2)),
    Gru: Operator("GRU", (1, 0, 2)),  # z, r, h of r, z, n
    Elman: Operator("RNN", (0,)),
}


def run_operator(
    graph: Graph,
    cells: Sequence[Cell],
    x: Value,
    lengths: Value,
    initial: State | None,
    *,
    reverse: bool,
) -> tuple[Value, State]:
    """Write an LSTM, GRU or RNN node; see `pipeline.export.onnx.layers.layer`."""
    first = cells[0]
    operator = OPERATORS[type(first)]
    options: dict[str, Any] = {"hidden_size": first.units}
    options["direction"] = _direction(len(cells), reverse=reverse)
    if isinstance(first, Gru):
        options["linear_before_reset"] = 1
    if isinstance(first, Elman):
        options["activations"] = [{"tanh": "Tanh", "relu": "Relu"}[first.activation]] * len(cells)
    by_cell = [_operator_weights(cell, operator.gates) for cell in cells]
    weights = [torch.stack(parts) for parts in zip(*by_cell, strict=True)]
    states = [initial.h, *([initial.c] if first.has_memory else [])] if initial else []
    y, *final = graph.ops(
        operator.kind, x, *weights, lengths.cast("int32"), *states,
        outputs=2 + first.has_memory, **options,
    )  # fmt: skip
    return _join_directions(y, len(cells)), State(*final)  # y [T, D, B, H]


def run_scan(
    graph: Graph,
    cells: Sequence[Cell],
    x: Value,
    mask: Value,
    initial: State | None,
    zoneout: tuple[float, float],
    *,
    reverse: bool,
) -> tuple[Value, State]:
    """Write a loop over the tokens for each direction; see `pipeline.export.onnx.layers.layer`.

    `mask` [T, B, 1] is true at tokens. Elsewhere the states do not change, so that the reverse
    direction begins with a row's last token.
    """
    outputs, final = [], []
    for d, cell in enumerate(cells):
        if initial is None:
            units = graph.value(np.array([cell.units]))
            zeros = graph.op("Expand", 0.0, graph.concat([x.size(1), units]))
            before = State(zeros, zeros if cell.has_memory else None)
        else:
            h, c = (part and part.slice(d, d + 1, 0).squeeze(0) for part in initial)
            assert h is not None
            before = State(h, c)
        y, after = _scan_direction(graph, cell, x, mask, before, zoneout, reverse=reverse or d > 0)
        outputs.append(y)
        final.append(after)
    parts = [
        graph.concat([part.unsqueeze(0) for part in parts], axis=0)
        for parts in zip(*final, strict=True)
    ]
    return graph.concat(outputs), State(*parts)


def _scan_direction(
    graph: Graph,
    cell: Cell,
    x: Value,
    mask: Value,
    before: State,
    zoneout: tuple[float, float],
    *,
    reverse: bool,
) -> tuple[Value, list[Value]]:
    """Return the states [T, B, H] of one direction, and h and c [B, H] after the last token."""
    units = cell.units
    wx = graph.linear(x, cell.input, cell.bias)  # [T, B, G*H]
    body = Graph(graph)
    h = body.input("h", "float32", ["batch", units])
    c = body.input("c", "float32", ["batch", units]) if cell.has_memory else None
    item = body.input("wx", "float32", ["batch", cell.gates * units])
    inside = body.input("inside", "bool", ["batch", 1])
    new_h, new_c = step(body, cell, item, h, c)
    kept_h, kept_c = zoneout
    new_h = new_h.lerp(h, kept_h) if kept_h else new_h
    new_h = body.where(inside, new_h, h)
    body.output("new_h", new_h, ["batch", units])
    if c is not None and new_c is not None:
        new_c = new_c.lerp(c, kept_c) if kept_c else new_c
        body.output("new_c", body.where(inside, new_c, c), ["batch", units])
    body.output("y", body.where(inside, new_h, 0.0), ["batch", units])
    states = [part for part in before if part is not None]
    *final, y = graph.scan(body, states, [wx, mask], outputs=1, reverse=reverse)
    return y, final


def step(
    graph: Graph, cell: Cell, wx: Value, h: Value, c: Value | None
) -> tuple[Value, Value | None]:
    """Compute h and c of one token from wx = W x + b [..., G*H], h' and c' [..., H]."""
    write = writer_of(STEPS, cell, f"model.cell={cell.settings.cell}", NAMES)
    return write(graph, cell, wx, graph.linear(h, cell.recurrent_weight()), h, c)


def _lstm(
    graph: Graph, cell: Lstm, wx: Value, uh: Value, h: Value, c: Value
) -> tuple[Value, Value]:
    i, f, g, o = (wx + uh).split(4)
    c = f.sigmoid() * c + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def _gru(graph: Graph, cell: Gru, wx: Value, uh: Value, h: Value, c: None) -> tuple[Value, None]:
    (r, z, n), (u_r, u_z, u_n) = wx.split(3), uh.split(3)
    n = (n + (r + u_r).sigmoid() * (u_n + cell.hidden_bias)).tanh()
    return n.lerp(h, (z + u_z).sigmoid()), None


def _elman(
    graph: Graph, cell: Elman, wx: Value, uh: Value, h: Value, c: None
) -> tuple[Value, None]:
    total = wx + uh
    return total.tanh() if cell.activation == "tanh" else total.relu(), None


def _goru(graph: Graph, cell: Goru, wx: Value, uh: Value, h: Value, c: None) -> tuple[Value, None]:
    (r, g, n), (u_r, u_g, q) = wx.split(3), uh.split(3)
    n = n + (r + u_r).sigmoid() * q
    n = n.sign() * (n.abs() + (cell.threshold + MOD_RELU_EPSILON)).relu()
    return n.lerp(h, (g + u_g).sigmoid()), None


STEPS: dict[type[Cell], Callable[..., tuple[Value, Value | None]]] = {
    Lstm: _lstm,
    GridLstm: _lstm,
    Gru: _gru,
    Elman: _elman,
    Goru: _goru,
}


def _operator_weights(cell: Cell, gates: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Return W [G*H, I], U [G*H, H] and the biases of both [2*G*H], with the gates reordered."""
    hidden_bias = torch.zeros_like(cell.bias)
    hidden_bias[-cell.units :] = cell.candidate_bias()  # GRU's d_n; zeros for other cells
    w, u, b, d = (
        torch.cat([part.split(cell.units)[gate] for gate in gates])
        for part in (cell.input, cell.recurrent_weight(), cell.bias, hidden_bias)
    )
    return w, u, torch.cat([b, d])


def _direction(directions: int, *, reverse: bool) -> str:
    assert not (reverse and directions == 2), "a reversed layer with two directions"
    return "bidirectional" if directions == 2 else "reverse" if reverse else "forward"


def _join_directions(y: Value, directions: int) -> Value:
    """[T, D, B, H] -> [T, B, D*H]"""
    return y.squeeze(1) if directions == 1 else y.transpose(0, 2, 1, 3).reshape(0, 0, -1)
