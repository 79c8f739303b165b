"""The graphs of complete models, from inputs to outputs.

Inputs and outputs begin with the batch, except recurrent states and attention weights.

Shapes: B rows (`batch`), T tokens of the longest row (`length`), F values of an image step or bytes
of a word, P requested positions, C labels or tags, L layers, H hidden units, V vocabulary.
"""

from typing import Any

import numpy as np
from torch import nn

from pipeline.export.onnx.cells import State
from pipeline.export.onnx.graph import Graph, Value
from pipeline.export.onnx.layers import encoder, rows_of, stack
from pipeline.export.onnx.poolings import head, last, pooling
from pipeline.models.classifier import Classifier
from pipeline.models.language_model import AdaptiveSoftmax, LanguageModel, OutputLayer
from pipeline.models.layers.crf import CRF
from pipeline.models.layers.images import MAX_PIXEL, ImageSteps
from pipeline.models.pair_classifier import PairClassifier
from pipeline.models.tagger import CharacterEncoder, Tagger

BATCH, LENGTH = "batch", "length"


def classifier(module: Classifier, settings: Any) -> tuple[Graph, Value]:
    """Return a graph without outputs, and the scores [B, C] of its rows.

    Inputs: tokens [B, T], or of images steps [B, T, F] uint8; lengths [B] in 1..T. A model of two
    texts has the second one in pair [B, T'] and pair_lengths [B].
    """
    graph = Graph()
    steps = isinstance(module.embedding, ImageSteps)
    pooled = _pool(graph, module, settings, "steps" if steps else "tokens", "lengths", LENGTH)
    if isinstance(module, PairClassifier):
        other = _pool(graph, module, settings, "pair", "pair_lengths", "pair_length")
        pooled = graph.concat([pooled, other, (pooled - other).abs(), pooled * other])
    return graph, head(graph, module.scores, settings.head, pooled)


def _pool(
    graph: Graph, module: Classifier, settings: Any, name: str, lengths_name: str, axis: str
) -> Value:
    """Declare the inputs of a text or an image, and return its vector [B, P]."""
    if isinstance(module.embedding, ImageSteps):
        x = _embed_steps(graph, module.embedding, name)
    else:
        x = _embed_tokens(graph, module.embedding, name, axis)
    rows = rows_of(graph, x, graph.input(lengths_name, "int64", [BATCH]))
    states, _ = encoder(graph, module.stack, x, rows)
    return pooling(graph, module.pooling, settings.pooling, states, rows)


def _embed_tokens(graph: Graph, module: nn.Module, name: str, axis: str = LENGTH) -> Value:
    """Declare an input of tokens [B, T] and return their embeddings [T, B, E]."""
    assert isinstance(module, nn.Embedding)
    return graph.embed(graph.input(name, "int64", [BATCH, axis]).transpose(1, 0), module)


def _embed_steps(graph: Graph, module: ImageSteps, name: str) -> Value:
    """Declare an input of pixel values [B, T, F] and return embeddings [T, B, E]."""
    steps = graph.input(name, "uint8", [BATCH, len(module.order), module.linear.in_features])
    if module.permuted:
        steps = graph.op("Gather", steps, module.order.numpy(), axis=1)
    pixels = steps.cast("float32").transpose(1, 0, 2) / float(MAX_PIXEL)
    return graph.module(pixels, module.linear)


def tagger(module: Tagger) -> Graph:
    """Inputs: tokens [B, T]; characters [B, T, F] uint8, unless the model has no such layer;
    lengths [B] in 1..T. Output: emissions [B, T, C].

    With a CRF its weights are outputs too: transitions [C, C] (from, to), start [C], end [C].
    """
    graph = Graph()
    x = _embed_tokens(graph, module.embedding, "tokens")
    if module.characters is not None:
        x = graph.concat([x, _characters(graph, module.characters)])
    rows = rows_of(graph, x, graph.input("lengths", "int64", [BATCH]))
    states, _ = encoder(graph, module.stack, x, rows)
    emissions = graph.module(states, module.scores).transpose(1, 0, 2)
    tags = module.scores.out_features
    graph.output("emissions", emissions, [BATCH, LENGTH, tags])
    if isinstance(module.scorer, CRF):
        for name in ("transitions", "start", "end"):
            weight = getattr(module.scorer, name)
            graph.output(name, graph.value(weight), list(weight.shape))
    return graph


def _characters(graph: Graph, module: CharacterEncoder) -> Value:
    """Declare an input of word bytes [B, T, F] and return their features [T, B, 2*H]."""
    words = graph.input("characters", "uint8", [BATCH, LENGTH, "bytes"])
    codes = words.cast("int64").transpose(1, 0, 2)  # [T, B, F]
    flat = graph.op("Reshape", codes, graph.concat([graph.value(np.array([-1])), codes.size(2)], 0))
    used = graph.op("Greater", flat, np.array(0)).cast("int64").sum(1)
    lengths = graph.op("Max", used, np.array(1))  # padding counts as a word of one byte
    x = graph.embed(flat.transpose(1, 0), module.embedding)  # [F, T*B, E]
    rows = rows_of(graph, x, lengths)
    states, _ = encoder(graph, module.stack, x, rows)
    features = last(graph, module.last, states, rows)  # [T*B, 2*H]
    shape = graph.concat([codes.size(0), codes.size(1), graph.value(np.array([-1]))], 0)
    return graph.op("Reshape", features, shape)


def language_model(module: LanguageModel, direction: int) -> Graph:
    """Inputs: tokens [B, T] in the reading order of the direction; lengths [B] in 1..T; positions
    [B, P] in 0..T-1; the recurrent state h, and for LSTM c [L, B, H], zeros at the start of a text.
    Outputs: log_probs [B, P, V] of the token after each of the positions; the state next_h, next_c
    after each row's last token.
    """
    graph = Graph()
    one: Any = module.stacks[direction]
    x = _embed_tokens(graph, module.embedding, "tokens")
    rows = rows_of(graph, x, graph.input("lengths", "int64", [BATCH]))
    positions = graph.input("positions", "int64", [BATCH, "positions"])
    first = one.layers[0].cells[0]
    shape = [len(one.layers), BATCH, first.units]
    names = ("h", "c") if first.has_memory else ("h",)
    state = [graph.input(name, "float32", shape) for name in names]
    states, final = stack(graph, one, x, rows, split_layers(state, len(one.layers)))
    chosen = graph.op("GatherND", states.transpose(1, 0, 2), positions.unsqueeze(2), batch_dims=1)
    output = graph.module(chosen, module.project)
    vocabulary = module.embedding.num_embeddings
    if isinstance(module.scores, AdaptiveSoftmax):
        log_probs = _adaptive_log_probs(graph, module.scores, output)
    else:
        assert isinstance(module.scores, OutputLayer)
        weight: Any = module.scores.weight
        weight = module.embedding.weight if weight is None else weight
        log_probs = graph.linear(output, weight, module.scores.bias).log_softmax()
    graph.output("log_probs", log_probs, [BATCH, "positions", vocabulary])
    for name, part in zip(names, zip(*final, strict=True), strict=False):
        graph.output(f"next_{name}", graph.concat(part, 0), shape)
    return graph


def split_layers(state: list[Value], layers: int) -> list[State]:
    """Split states [L, B, H] into those of each layer [1, B, H]."""
    return [State(*(part.slice(n, n + 1, 0) for part in state)) for n in range(layers)]


def _adaptive_log_probs(graph: Graph, module: AdaptiveSoftmax, x: Value) -> Value:
    """Return the log-probabilities [..., V] of all clusters."""
    first = graph.module(x, module.head).log_softmax()  # tokens of the head, then the clusters
    head_size = module.cutoffs[0]
    parts = [first.slice(0, head_size, -1)]
    tails: Any = module.tail
    for number, (project, scores) in enumerate(tails, head_size):
        own = graph.module(graph.module(x, project), scores).log_softmax()
        parts.append(own + first.slice(number, number + 1, -1))
    return graph.concat(parts)
