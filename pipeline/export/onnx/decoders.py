"""The graphs of encoder-decoder models: the encoder, and one step of the decoder.

Shapes: B rows (`batch`), S source tokens of the longest row (`length`), M features of a source
state, A of its attention key, K hypotheses per row, N = K * B hypotheses (`hypotheses`; the first
of every row, then the second of every row, ...), L layers of the decoder, H hidden units, V target
vocabulary.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pipeline.export.onnx.graph import SMALLEST, Graph, Value
from pipeline.export.onnx.layers import encoder, layer, rows_of, skip
from pipeline.export.onnx.models import BATCH, LENGTH, split_layers
from pipeline.export.onnx.refusals import writer_of
from pipeline.models.attention import Attention
from pipeline.models.attentions.additive import AdditiveAttention
from pipeline.models.attentions.dot import DotAttention
from pipeline.models.decoding.decoder import Decoder
from pipeline.models.translator import Translator

HYPOTHESES = "hypotheses"


def source_encoder(module: Translator) -> Graph:
    """Inputs: source [B, S]; lengths [B] in 1..S. Outputs: memory [B, S, M]; attention_keys
    [B, S, A]; the decoder's initial state h, and for LSTM c [L, B, H].
    """
    graph = Graph()
    decoder = module.decoder
    embedding = decoder.embedding if module.embedding is None else module.embedding
    source = graph.input("source", "int64", [BATCH, LENGTH])
    x = graph.embed(source.transpose(1, 0), embedding)
    rows = rows_of(graph, x, graph.input("lengths", "int64", [BATCH]))
    states, final = encoder(graph, module.stack, x, rows)  # [S, B, M]
    memory = states.transpose(1, 0, 2)
    keys = graph.module(memory, decoder.attention.key)
    graph.output("memory", memory, [BATCH, LENGTH, module.stack.outputs])
    graph.output("attention_keys", keys, [BATCH, LENGTH, decoder.attention.key.out_features])
    layers, parts, units = decoder.state_shape
    if decoder.bridge is None:
        shape = graph.concat([source.size(0), graph.value(np.array([layers * parts * units]))], 0)
        initial = graph.op("Expand", 0.0, shape)
    else:
        top = final[-1].h.transpose(1, 0, 2).reshape(0, -1)  # [B, D*H]
        initial = graph.module(top, decoder.bridge).tanh()
    by_layer = initial.reshape(0, layers, parts, units).transpose(2, 1, 0, 3)  # [1 or 2, L, B, H]
    for number, name in enumerate(("h", "c")[:parts]):
        part = by_layer.slice(number, number + 1, 0).squeeze(0)
        graph.output(name, part, [layers, BATCH, units])
    return graph


def decoder_step(module: Decoder, attention_name: str) -> Graph:
    """Inputs: the last token of each hypothesis, tokens [N]; its state h, and for LSTM c [L, N, H];
    memory [B, S, M], attention_keys [B, S, A] and lengths [B] of the sources. Outputs: log_probs
    [N, V] of the next token; the state next_h, next_c; the attention weights [N, S].
    """
    graph = Graph()
    layers, parts, units = module.state_shape
    tokens = graph.input("tokens", "int64", [HYPOTHESES])
    names = ("h", "c")[:parts]
    state = [graph.input(name, "float32", [layers, HYPOTHESES, units]) for name in names]
    width = module.attention.key.in_features
    memory = graph.input("memory", "float32", [BATCH, LENGTH, width])
    keys = graph.input(
        "attention_keys", "float32", [BATCH, LENGTH, module.attention.key.out_features]
    )
    lengths = graph.input("lengths", "int64", [BATCH])

    x = graph.embed(tokens.unsqueeze(0), module.embedding)  # [1, N, E]
    one = graph.op("Expand", np.array(1), tokens.size(0))
    rows, before = rows_of(graph, x, one), split_layers(state, layers)
    x = graph.module(x, module.norms[0])
    x, after = layer(graph, module.layers[0], x, rows, before[0])  # type: ignore[arg-type]
    final = [after]
    context, weights = _attend(graph, module.attention, attention_name, x, memory, keys, lengths)
    upper_layers = zip(module.layers[1:], module.norms[1:], module.skips, before[1:], strict=True)
    for recurrent, norm, connection, own in upper_layers:
        inputs = graph.module(graph.concat([x, context]), norm)
        above, after = layer(graph, recurrent, inputs, rows, own)  # type: ignore[arg-type]
        x = skip(graph, connection, x, above)  # type: ignore[arg-type]
        final.append(after)
    features = graph.module(graph.concat([x, context]), module.combine).tanh().squeeze(0)
    weight = module.embedding.weight if module.project is None else module.project.weight
    log_probs = graph.linear(features, weight, module.bias).log_softmax()
    graph.output("log_probs", log_probs, [HYPOTHESES, weight.shape[0]])
    for name, part in zip(names, zip(*final, strict=True), strict=False):
        graph.output(f"next_{name}", graph.concat(part, 0), [layers, HYPOTHESES, units])
    graph.output("weights", weights, [HYPOTHESES, LENGTH])
    return graph


def _attend(
    graph: Graph,
    module: Attention,
    name: str,
    states: Value,
    memory: Value,
    keys: Value,
    lengths: Value,
) -> tuple[Value, Value]:
    """Return contexts [1, N, M] and weights [N, S] for the decoder's states [1, N, H].

    To attention, the K hypotheses of a row are K queries of it.
    """
    write = writer_of(ATTENTIONS, module, f"model.attention={name}", ("additive", "dot"))
    rows = graph.value(np.array([-1])), memory.size(0), states.size(2)
    queries = graph.op("Reshape", states, graph.concat(rows, 0)).transpose(1, 0, 2)  # [B, K, H]
    scores = write(graph, module, queries, keys)  # [B, K, S]
    inside = graph.op("Less", graph.arange(memory.size(1)), lengths.unsqueeze(1)).unsqueeze(1)
    weights = graph.where(inside, scores, SMALLEST).softmax(-1)
    contexts = (weights @ memory).transpose(1, 0, 2)  # [K, B, M]
    width = module.key.in_features
    flat_weights = weights.transpose(1, 0, 2)  # [K, B, S]
    shape = graph.concat([states.size(1), memory.size(1)], 0)
    return contexts.reshape(1, -1, width), graph.op("Reshape", flat_weights, shape)


def _additive(graph: Graph, module: AdditiveAttention, queries: Value, keys: Value) -> Value:
    hidden = (graph.module(queries, module.query).unsqueeze(2) + keys.unsqueeze(1)).tanh()
    return (hidden @ module.score.unsqueeze(1)).squeeze(-1)


def _dot(graph: Graph, module: DotAttention, queries: Value, keys: Value) -> Value:
    return queries @ keys.transpose(0, 2, 1)


ATTENTIONS: dict[type[Attention], Callable[[Graph, Any, Value, Value], Value]] = {
    AdditiveAttention: _additive,
    DotAttention: _dot,
}
