"""The export of each task: its graphs, their checks, and its entries in config.json.

Shapes: B rows, T tokens of the longest row, F values of an image step or bytes of a word.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config import Config
from pipeline.corpus.fields import bio_spans
from pipeline.corpus.tokenization.special_tokens import BEGIN, END
from pipeline.export.onnx import decoders, models
from pipeline.export.onnx.check import TOLERANCE, Arrays, Part
from pipeline.export.onnx.graph import Graph, Value
from pipeline.export.onnx.refusals import writer_of
from pipeline.models.decoding.decoder import Memory
from pipeline.models.language_model import LanguageModel
from pipeline.models.layers.crf import CRF
from pipeline.models.layers.masks import valid
from pipeline.models.layers.recurrent import LayerState
from pipeline.models.pair_classifier import PairClassifier
from pipeline.models.tagger import Tagger
from pipeline.models.translator import Translator
from pipeline.tasks.base.scores import MAX_SCORES
from pipeline.tasks.base.seq2seq import NEVER_GENERATED, UNKNOWN_WORD
from pipeline.tasks.base.task import Task
from pipeline.tasks.classification import Classification
from pipeline.tasks.entailment import Entailment
from pipeline.tasks.images import Images
from pipeline.tasks.language_modeling import LanguageModeling
from pipeline.tasks.multilabel import MultiLabel
from pipeline.tasks.regression import Regression
from pipeline.tasks.tagging import Tagging
from pipeline.tasks.translation import EXTRA_TOKENS, Translation

MODEL = "model.onnx"
HYPOTHESES_PER_ROW = 3
"""Hypotheses of each row in the check of a decoder step."""


class TaskExport(NamedTuple):
    """The graphs of a task by file name, and its entries in config.json."""

    parts: dict[str, Part]
    facts: dict[str, Any]


def task_export(task: Task, module: nn.Module, config: Config) -> TaskExport:
    """Write the graphs of a task's model.

    Raises RunError for a task, a component or a setting without a writer.
    """
    write = writer_of(WRITERS, task, f"task.name={config.task.name}", NAMES)
    return write(task, module, config)


def _classification(task: Classification, module: Any, config: Config) -> TaskExport:
    graph, scores = models.classifier(module, config.model)
    return TaskExport(
        {MODEL: _single_output(module, graph, scores, "Softmax", task.labels)},
        {
            "labels": list(task.labels),
            "max_scores": MAX_SCORES,
            "temperature": task.calibration.temperature,
        },
    )


def _multilabel(task: MultiLabel, module: Any, config: Config) -> TaskExport:
    graph, scores = models.classifier(module, config.model)
    return TaskExport(
        {MODEL: _single_output(module, graph, scores, "Sigmoid", task.labels)},
        {
            "labels": list(task.labels),
            "max_scores": MAX_SCORES,
            "thresholds": task.calibration.thresholds(task.labels).tolist(),
        },
    )


def _single_output(
    module: Any, graph: Graph, scores: Value, activation: str, labels: Iterable[str]
) -> Part:
    """Add the outputs logits and probabilities [B, C], and return the part."""
    size = len(list(labels))
    options = {"axis": -1} if activation == "Softmax" else {}
    graph.output("logits", scores, [models.BATCH, size])
    graph.output("probabilities", graph.op(activation, scores, **options), [models.BATCH, size])

    def reference(inputs: Arrays) -> Arrays:
        logits = _classifier_scores(module, inputs)
        probabilities = logits.softmax(-1) if activation == "Softmax" else logits.sigmoid()
        return {"logits": logits.numpy(), "probabilities": probabilities.numpy()}

    part = _classifier_part(module, graph, reference, {"probabilities": (0.0, 1e-5)})
    return replace(part, probabilities=lambda _, outputs: outputs["probabilities"])


def _regression(task: Regression, module: Any, config: Config) -> TaskExport:
    """Outputs: score [B], on the scale of training, and number [B], in the unit of the input."""
    graph, scores = models.classifier(module, config.model)
    score = scores.squeeze(1)
    graph.output("score", score, [models.BATCH])
    graph.output("number", score * float(task.scale) + float(task.mean), [models.BATCH])

    def reference(inputs: Arrays) -> Arrays:
        scores = _classifier_scores(module, inputs)[:, 0]
        return {"score": scores.numpy(), "number": (scores * task.scale + task.mean).numpy()}

    rtol, atol = TOLERANCE  # of the score; a number is `scale` times as large
    tolerances = {"number": (rtol, atol * task.scale)}
    part = _classifier_part(module, graph, reference, tolerances)
    return TaskExport({MODEL: part}, {"mean": task.mean, "scale": task.scale})


def _classifier_part(
    module: Any,
    graph: Graph,
    reference: Callable[[Arrays], Arrays],
    tolerances: Mapping[str, tuple[float, float]],
) -> Part:
    """Return the part of a model with one output per row."""
    if not isinstance(module.embedding, nn.Embedding):
        steps, width = len(module.embedding.order), module.embedding.linear.in_features

        def images(rng: np.random.Generator, lengths: tuple[int, ...]) -> Arrays:
            shape = len(lengths), steps, width
            return {
                "steps": rng.integers(0, 256, shape).astype(np.uint8),
                "lengths": np.full(len(lengths), steps),
            }

        return Part(graph, images, reference, {}, tolerances)
    vocabulary = module.embedding.num_embeddings
    pairs = {"tokens": "lengths"}
    if isinstance(module, PairClassifier):
        pairs["pair"] = "pair_lengths"

    def texts(rng: np.random.Generator, lengths: tuple[int, ...]) -> Arrays:
        arrays: Arrays = {}
        for name, lengths_name in pairs.items():
            arrays |= _tokens(rng, name, lengths_name, lengths, vocabulary)
            lengths = lengths[::-1]  # the second text of a row has another length
        return arrays

    return Part(graph, texts, reference, pairs, tolerances)


def _classifier_scores(module: nn.Module, inputs: Arrays) -> Tensor:
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    tokens = tensors["tokens" if "tokens" in tensors else "steps"]
    others = [tensors[name] for name in ("pair", "pair_lengths") if name in tensors]
    return module(tokens, tensors["lengths"], torch.zeros(len(tokens), dtype=torch.int64), *others)


def _tagging(task: Tagging, module: Tagger, config: Any) -> TaskExport:
    graph = models.tagger(module)
    vocabulary, has_bytes = module.embedding.num_embeddings, module.characters is not None
    width = config.corpus.word_bytes

    def inputs(rng: np.random.Generator, lengths: tuple[int, ...]) -> Arrays:
        arrays = _tokens(rng, "tokens", "lengths", lengths, vocabulary)
        if has_bytes:
            shape = *arrays["tokens"].shape, width
            words = rng.integers(1, 256, shape)
            words *= np.arange(width) < rng.integers(1, width + 1, (*shape[:2], 1))
            inside = np.arange(shape[1]) < arrays["lengths"][:, None]
            arrays["characters"] = (words * inside[..., None]).astype(np.uint8)
        return arrays

    def reference(inputs: Arrays) -> Arrays:
        tokens, lengths = torch.from_numpy(inputs["tokens"]), torch.from_numpy(inputs["lengths"])
        characters = torch.from_numpy(inputs["characters"]) if has_bytes else tokens[..., None]
        emissions = module.emissions(tokens, characters, lengths, torch.zeros_like(lengths))
        outputs = {"emissions": emissions.transpose(0, 1).numpy()}
        if isinstance(module.scorer, CRF):
            weights = {n: getattr(module.scorer, n) for n in ("transitions", "start", "end")}
            outputs |= {name: weight.detach().numpy() for name, weight in weights.items()}
        return outputs

    def probabilities(inputs: Arrays, outputs: Arrays) -> Any:
        """Return the probability of each tag for each word of all rows."""
        lengths = torch.from_numpy(inputs["lengths"])
        emissions = torch.from_numpy(outputs["emissions"]).transpose(0, 1)
        if isinstance(module.scorer, CRF):
            by_word = module.scorer.marginals(emissions, lengths)
        else:
            by_word = emissions.softmax(-1)
        return by_word[valid(lengths, len(by_word))].numpy()

    padded = {"tokens": "lengths"} | ({"characters": "lengths"} if has_bytes else {})
    allowed = bio_spans.allowed(task.tags).astype(int).tolist() if task.scheme else None
    crf = isinstance(module.scorer, CRF)
    facts = {
        "tags": task.tags,
        "scheme": task.scheme,
        "crf": crf,
        "allowed": allowed if crf else None,
        "word_bytes": width if has_bytes else 0,
    }
    part = Part(graph, inputs, reference, padded, probabilities=probabilities)
    return TaskExport({MODEL: part}, facts)


def _language_modeling(task: LanguageModeling, module: LanguageModel, config: Config) -> TaskExport:
    names = (MODEL, "backward.onnx")
    parts = {
        names[direction]: _language_model_part(module, direction)
        for direction in range(len(module.stacks))
    }
    s = task.settings
    facts = {
        "reads_backward": task.is_reversed[0],
        "max_new_tokens": s.max_new_tokens,
        "temperature": s.temperature,
        "seed": s.seed,
        "end": END,
    }
    return TaskExport(parts, facts)


def _language_model_part(module: LanguageModel, direction: int) -> Part:
    stack: Any = module.stacks[direction]
    graph = models.language_model(module, direction)
    has_memory, units = stack.layers[0].cells[0].has_memory, stack.layers[0].cells[0].units
    vocabulary = module.embedding.num_embeddings
    state_names = ("h", "c") if has_memory else ("h",)

    def inputs(rng: np.random.Generator, lengths: tuple[int, ...]) -> Arrays:
        arrays = _tokens(rng, "tokens", "lengths", lengths, vocabulary)
        count = min(min(lengths), 5)
        positions = rng.integers(0, arrays["lengths"][:, None], (len(lengths), count))
        shape = len(stack.layers), len(lengths), units
        states = {name: _random_state(rng, shape) for name in state_names}
        return {**arrays, "positions": positions, **states}

    def reference(inputs: Arrays) -> Arrays:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        lengths, positions = tensors["lengths"], tensors["positions"]
        before = _layer_states(tensors)
        x = module.embedding(tensors["tokens"].t())
        states, final = stack(x, lengths, torch.zeros_like(lengths), before)
        chosen = states.transpose(0, 1)[torch.arange(len(lengths))[:, None], positions]
        return {"log_probs": module.log_probs(chosen).numpy(), **_next_states(final, state_names)}

    return Part(graph, inputs, reference, {"tokens": "lengths"})


def _translation(task: Translation, module: Translator, config: Any) -> TaskExport:
    decoder = module.decoder
    embedding = decoder.embedding if module.embedding is None else module.embedding
    layers, parts, units = decoder.state_shape
    names = ("h", "c")[:parts]

    def source(rng: np.random.Generator, lengths: tuple[int, ...]) -> Arrays:
        return _tokens(rng, "source", "lengths", lengths, embedding.num_embeddings)

    def encoded(inputs: Arrays) -> Arrays:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        lengths = tensors["lengths"]
        memory = module.encode(tensors["source"], lengths, torch.zeros_like(lengths))
        by_name = zip(names, zip(*memory.initial_state, strict=True), strict=False)
        states = {name: torch.cat(layers) for name, layers in by_name}
        return {
            "memory": memory.states.transpose(0, 1).numpy(),
            "attention_keys": memory.attention_keys.transpose(0, 1).numpy(),
            **{name: state.numpy() for name, state in states.items()},
        }

    def hypotheses(rng: np.random.Generator, lengths: tuple[int, ...]) -> Arrays:
        rows = source(rng, lengths)
        outputs = encoded(rows)
        count = HYPOTHESES_PER_ROW * len(lengths)
        states = {name: _random_state(rng, (layers, count, units)) for name in names}
        tokens = rng.integers(0, decoder.embedding.num_embeddings, count)
        return {**outputs, **states, "tokens": tokens, "lengths": rows["lengths"]}

    def step(inputs: Arrays) -> Arrays:
        tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
        memory, keys = (tensors[name].transpose(0, 1) for name in ("memory", "attention_keys"))
        sources = Memory(memory, keys, tensors["lengths"], [])
        log_probs, final, weights = decoder.step(tensors["tokens"], _layer_states(tensors), sources)
        outputs = {"log_probs": log_probs.numpy(), "weights": weights.numpy()}
        return outputs | _next_states(final, names)

    decoder_graph = decoders.decoder_step(decoder, config.model.attention)
    s = task.settings
    return TaskExport(
        {
            "encoder.onnx": Part(
                decoders.source_encoder(module), source, encoded, {"source": "lengths"}
            ),
            "decoder.onnx": Part(
                decoder_graph,
                hypotheses,
                step,
                {"memory": "lengths", "attention_keys": "lengths"},
            ),
        },
        {
            "target_vocabulary": task.vocabulary,
            "begin": BEGIN,
            "end": END,
            "never_generated": list(NEVER_GENERATED),
            "unknown": NEVER_GENERATED[1],
            "unknown_word": UNKNOWN_WORD,
            "beam_size": s.beam_size,
            "n_best": s.n_best,
            "length_penalty": s.length_penalty,
            "max_length_ratio": s.max_length_ratio,
            "extra_tokens": EXTRA_TOKENS,
        },
    )


def _tokens(
    rng: np.random.Generator,
    name: str,
    lengths_name: str,
    lengths: tuple[int, ...],
    vocabulary: int,
) -> Arrays:
    """Return random tokens [B, T], 0 past each length, and the lengths [B]."""
    tokens = rng.integers(0, vocabulary, (len(lengths), max(lengths)))
    tokens *= np.arange(max(lengths)) < np.array(lengths)[:, None]
    return {name: tokens, lengths_name: np.array(lengths)}


def _random_state(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
    return rng.uniform(-1, 1, shape).astype(np.float32)


def _layer_states(tensors: Mapping[str, Tensor]) -> list[LayerState]:
    """Return the state of each layer from h and c [L, B, H]; without c, h takes its place."""
    h = tensors["h"]
    return [LayerState(a[None], b[None]) for a, b in zip(h, tensors.get("c", h), strict=True)]


def _next_states(final: Iterable[LayerState], names: Iterable[str]) -> Arrays:
    """Return the states after a step as next_h and next_c [L, B, H]."""
    layers = list(final)
    return {
        f"next_{name}": torch.cat([layer[n] for layer in layers]).detach().numpy()
        for n, name in enumerate(names)
    }


WRITERS: dict[type[Task], Callable[..., TaskExport]] = {
    Classification: _classification,
    Entailment: _classification,
    Images: _classification,
    MultiLabel: _multilabel,
    Regression: _regression,
    Tagging: _tagging,
    LanguageModeling: _language_modeling,
    Translation: _translation,
}
NAMES = (
    "classification", "entailment", "images", "multilabel", "regression", "tagging",
    "language_modeling", "translation",
)  # fmt: skip
