"""Poolings and output heads.

Shapes: T tokens of the longest row, B rows, F features of a state, P features of a vector, C
outputs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.export.onnx.graph import SMALLEST, Graph, Value
from pipeline.export.onnx.layers import Rows
from pipeline.export.onnx.refusals import writer_of
from pipeline.models.head import Head
from pipeline.models.heads.linear import LinearHead
from pipeline.models.heads.mlp import MlpHead
from pipeline.models.pooling import Pooling
from pipeline.models.poolings.attention import AttentionPooling
from pipeline.models.poolings.last import Last
from pipeline.models.poolings.max_mean import MaxMean


def pooling(graph: Graph, module: Pooling, name: str, states: Value, rows: Rows) -> Value:
    """Pool states [T, B, F] into vectors [B, P]. `name` is the value of `model.pooling`."""
    write = writer_of(POOLINGS, module, f"model.pooling={name}", ("max_mean", "last", "attention"))
    return write(graph, module, states, rows)


def head(graph: Graph, module: Head, name: str, pooled: Value) -> Value:
    """Map vectors [B, P] to outputs [B, C]. `name` is the value of `model.head`."""
    return writer_of(HEADS, module, f"model.head={name}", ("linear", "mlp"))(graph, module, pooled)


def last(graph: Graph, module: Last, states: Value, rows: Rows) -> Value:
    """Return each direction's state after the last token that it reads."""
    first = states.slice(0, 1, 0).squeeze(0)
    if module.backward:
        return first
    ends = rows.lengths - np.array(1)
    indices = graph.concat([ends.unsqueeze(1), graph.arange(states.size(1)).unsqueeze(1)])
    at_end = graph.op("GatherND", states, indices)  # [B, F]
    if module.outputs == module.hidden:
        return at_end
    hidden, end = module.hidden, module.outputs
    return graph.concat([at_end.slice(0, hidden, 1), first.slice(hidden, end, 1)])


def _max_mean(graph: Graph, module: MaxMean, states: Value, rows: Rows) -> Value:
    masked = graph.where(rows.mask, states, SMALLEST)
    maximum = graph.op("ReduceMax", masked, axes=[0], keepdims=0)
    mean = states.sum(0) / rows.lengths.cast("float32").unsqueeze(1)
    return graph.concat([maximum, mean])


def _attention(graph: Graph, module: AttentionPooling, states: Value, rows: Rows) -> Value:
    scores = graph.module(graph.module(states, module.project).tanh(), module.score)  # [T, B, 1]
    return (graph.where(rows.mask, scores, SMALLEST).softmax(0) * states).sum(0)


def _linear(graph: Graph, module: LinearHead, pooled: Value) -> Value:
    return graph.linear(pooled, module.weight, module.bias)


def _mlp(graph: Graph, module: MlpHead, pooled: Value) -> Value:
    return graph.module(graph.module(pooled, module.hidden).relu(), module.scores)


POOLINGS: dict[type[Pooling], Callable[[Graph, Any, Value, Rows], Value]] = {
    Last: last,
    MaxMean: _max_mean,
    AttentionPooling: _attention,
}
HEADS: dict[type[Head], Callable[[Graph, Any, Value], Value]] = {
    LinearHead: _linear,
    MlpHead: _mlp,
}
