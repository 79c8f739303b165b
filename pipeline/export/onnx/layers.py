"""Encoders: recurrent layers, stacks of them, and grids.

Shapes: T tokens of the longest row, B rows, I input features, H hidden units, D directions.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.export.onnx.cells import NAMES, OPERATORS, STEPS, State, run_operator, run_scan, step
from pipeline.export.onnx.graph import Graph, Value
from pipeline.export.onnx.refusals import refusal, writer_of
from pipeline.models.encoder import Encoder
from pipeline.models.encoders.grid import GridStack
from pipeline.models.encoders.stack import Stack
from pipeline.models.layers.depth_lstm import DepthLSTM
from pipeline.models.layers.grid_image import ImageStack
from pipeline.models.layers.independent_directions import IndependentDirections
from pipeline.models.layers.recurrent import Highway, Layer, Residual, Skip


class Rows(NamedTuple):
    """The lengths of a padded batch."""

    lengths: Value
    """[B] int64, at least 1."""
    mask: Value
    """[T, B, 1] bool: true at tokens, false at padding."""


def rows_of(graph: Graph, x: Value, lengths: Value) -> Rows:
    """Return the rows of a padded batch x [T, B, ...] with lengths [B]."""
    positions = graph.arange(x.size(0)).unsqueeze(1)
    return Rows(lengths, graph.op("Less", positions, lengths).unsqueeze(2))


def layer(
    graph: Graph,
    module: Layer,
    x: Value,
    rows: Rows,
    initial: State | None = None,
    *,
    reverse: bool = False,
) -> tuple[Value, State]:
    """Write a recurrent layer.

    Takes x [T, B, I] and the initial state (None: zeros). With `reverse` the layer has one
    direction, which begins with a row's last token. Returns the hidden states [T, B, D*H], 0 past a
    row's length, and the state after each row's own last token.
    """
    cells = module.cells
    for cell in cells:
        writer_of(STEPS, cell, f"model.cell={cell.settings.cell}", NAMES)
    zoneout = module.zoneout.h, module.zoneout.c
    if type(cells[0]) in OPERATORS and not any(zoneout):
        return run_operator(graph, cells, x, rows.lengths, initial, reverse=reverse)
    return run_scan(graph, cells, x, rows.mask, initial, zoneout, reverse=reverse)


def skip(graph: Graph, module: Skip, below: Value, above: Value) -> Value:
    """Combine a layer's input and output."""
    if isinstance(module, Residual):
        return below + above
    if isinstance(module, Highway):
        return below.lerp(above, graph.module(below, module.gate).sigmoid())
    return above


def encoder(
    graph: Graph, module: Encoder, x: Value, rows: Rows, initial: Sequence[State] = ()
) -> tuple[Value, list[State]]:
    """Write an encoder.

    Takes x [T, B, I] and each layer's initial state (empty: zeros). Returns the states [T, B, F], 0
    past a row's length, and each layer's final state, empty if the encoder has none. Raises
    RunError for encoders that have no writer.
    """
    if isinstance(module, ImageStack):
        raise refusal("model.grid_dimensions=3", "train with model.grid_dimensions=2")
    name = f"model.encoder={type(module).__module__}:{type(module).__name__}"
    return writer_of(ENCODERS, module, name, ("stack", "grid"))(graph, module, x, rows, initial)


def stack(
    graph: Graph,
    module: Stack,
    x: Value,
    rows: Rows,
    initial: Sequence[State] = (),
    *,
    reverse: bool = False,
) -> tuple[Value, list[State]]:
    """Write stacked layers; `reverse` is as for `layer`."""
    final: list[State] = []
    for number, (recurrent, norm) in enumerate(zip(module.layers, module.norms, strict=True)):
        before = initial[number] if initial else None
        above, state = layer(graph, recurrent, graph.module(x, norm), rows, before, reverse=reverse)  # type: ignore[arg-type]
        x = skip(graph, module.skips[number - 1], x, above) if number else above  # type: ignore[arg-type]
        final.append(state)
    return x, final


def _independent(
    graph: Graph,
    module: IndependentDirections,
    x: Value,
    rows: Rows,
    initial: Sequence[State],
) -> tuple[Value, list[State]]:
    outputs, final = [], []
    for d, (one, is_reversed) in enumerate(zip(module.stacks, module.is_reversed, strict=True)):
        own = [State(*(part.slice(d, d + 1, 0) for part in _parts(state))) for state in initial]
        y, after = stack(graph, one, x, rows, own, reverse=is_reversed)  # type: ignore[arg-type]
        outputs.append(y)
        final.append(after)
    states = [
        State(*(graph.concat(parts, 0) for parts in zip(*layer_states, strict=True)))
        for layer_states in zip(*(map(_parts, stack_states) for stack_states in final), strict=True)
    ]
    return graph.concat(outputs), states


def _parts(state: State) -> list[Value]:
    return [part for part in state if part is not None]


def _grid(
    graph: Graph, module: GridStack, x: Value, rows: Rows, initial: Sequence[State]
) -> tuple[Value, list[State]]:
    """Write a grid over depth and time. It keeps no state between segments."""
    assert not initial, "a grid with initial states"
    h = graph.module(x, module.project)
    memory = h * 0.0
    for number in range(len(module.dropouts)):
        h = graph.module(h, module.norms[number % len(module.norms)])
        time_states = None
        if module.times:
            time_layer: Any = module.times[number % len(module.times)]
            time_states, _ = layer(graph, time_layer, h, rows)
            if not module.priority:
                time_states = _previous_states(graph, time_states, len(time_layer.cells))
        depth: Any = module.depths[number % len(module.depths)]
        h, memory = _depth(graph, depth, time_states, h, memory)
    return graph.where(rows.mask, h, 0.0), []


def _previous_states(graph: Graph, states: Value, directions: int) -> Value:
    """Return each direction's state before it reads a token; [T, B, D*H] in and out."""
    pads = ((1, 0), (0, 1))  # steps of zeros before and after
    parts = states.split(directions) if directions > 1 else [states]
    shifted = []
    for part, (before, after) in zip(parts, pads, strict=False):
        padded = graph.op("Pad", part, np.array([before, 0, 0, after, 0, 0]))
        shifted.append(padded.slice(0, -1, 0) if before else padded.slice(1, 1 << 31, 0))
    return graph.concat(shifted)


def _depth(
    graph: Graph, module: DepthLSTM, inputs: Value | None, h: Value, memory: Value
) -> tuple[Value, Value]:
    """Take one step of the LSTM along depth for all tokens; all values are [T, B, ...]."""
    (cell,) = module.layer.cells
    wx = graph.value(cell.bias)
    if inputs is not None:
        wx = graph.linear(inputs, cell.input, cell.bias)
    new_h, new_memory = step(graph, cell, wx, h, memory)
    assert new_memory is not None
    return new_h, new_memory


ENCODERS: dict[type[Encoder], Callable[..., tuple[Value, list[State]]]] = {
    Stack: stack,
    IndependentDirections: _independent,
    GridStack: _grid,
}
