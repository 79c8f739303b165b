"""Embeddings, log-probabilities and generated texts of a trained model."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.corpus.field_spec import DOCUMENT, SEGMENTS
from pipeline.errors import ConfigError, InputError
from pipeline.inference.input_encoding import EncodedInputs, InputEncoder
from pipeline.inference.outputs import batches, outputs
from pipeline.inference.run_input import RawInput
from pipeline.inference.trained import TrainedModel
from pipeline.runtime.device import memory_errors
from pipeline.stream.batch import Batch
from pipeline.tasks.base.abilities import (
    Embeds,
    Generates,
    Generation,
    GenerationOptions,
    Score,
    Scores,
)


@memory_errors()
def embed(
    model: TrainedModel, encoder: InputEncoder, inputs: Sequence[RawInput]
) -> NDArray[np.float32]:
    """Return the vector of each input [N, P]; see `Model.embed`."""
    if not isinstance(model.task, Embeds):
        raise _error(model, "embed")
    encoded = _encode(encoder, inputs)
    vectors: NDArray[np.float32] | None = None
    for found, batch in outputs(model, encoder.fields, encoded.examples, model.task.embed):
        real = batch.weights > 0
        if vectors is None:
            vectors = np.empty((len(inputs), found.shape[1]), np.float32)
        vectors[batch.columns[DOCUMENT][real].cpu().numpy()] = found[real].float().cpu().numpy()
    return np.empty((0, 0), np.float32) if vectors is None else vectors


def score_encoder(model: TrainedModel) -> InputEncoder:
    """Return the encoder for `score`: of the inputs and targets, without truncation."""
    if not isinstance(model.task, Scores):
        raise _error(model, "score")
    stateful = model.task.stateful  # `log_probabilities` of these tasks adds the end of the text
    fields = [
        replace(field, append_end=False) if stateful else field
        for field in model.task.fields(model.config.corpus)
        if field.kind_class.is_input or field.kind_class.is_target
    ]
    return InputEncoder(model, fields, {"overflow": "drop"})


@memory_errors()
def score(model: TrainedModel, encoder: InputEncoder, inputs: Sequence[RawInput]) -> list[Score]:
    """Return the log-probability of each input's text; see `Model.score`."""
    assert isinstance(model.task, Scores), "checked by score_encoder"
    scores: list[Score | None] = [None] * len(inputs)
    encoded = _encode(encoder, inputs)
    for batch, documents in _batches(model, encoder, encoded):
        values = model.task.log_probabilities(model.module, batch).tolist()
        for document, (log_probability, tokens) in zip(documents, values, strict=True):
            scores[document] = Score(log_probability, int(tokens))
    return [found for found in scores if found is not None]


@memory_errors()
def generate(
    model: TrainedModel,
    encoder: InputEncoder,
    inputs: Sequence[RawInput],
    options: GenerationOptions,
) -> list[list[Generation]]:
    """Return generated texts for each input; see `Model.generate`."""
    if not isinstance(model.task, Generates):
        raise _error(model, "generate")
    texts: list[list[Generation]] = [[] for _ in inputs]
    encoded = _encode(encoder, inputs)
    for batch, documents in _batches(model, encoder, encoded):
        found = model.task.generate(model.module, batch, options)
        for document, generated in zip(documents, found, strict=True):
            texts[document] = generated
    return texts


def _error(model: TrainedModel, method: str) -> ConfigError:
    name = model.config.task.name
    return ConfigError(f"task.name={name}: does not support {method}; use a model of another task")


def _encode(encoder: InputEncoder, inputs: Sequence[RawInput]) -> EncodedInputs:
    """Encode inputs. Raises InputError, with a line for each that cannot be used."""
    encoded = encoder.encode(inputs)
    if encoded.errors:
        raise InputError(
            f"{inputs[number].row.place(inputs[number].file)}: {error}; leave it out"
            for number, error in encoded.errors.items()
        )
    return encoded


@torch.no_grad()
def _batches(
    model: TrainedModel, encoder: InputEncoder, encoded: EncodedInputs
) -> Iterator[tuple[Batch, list[int]]]:
    """Yield batches without padding rows, on the model's device, and the index of each row's input.

    The block that uses a batch runs in the model's precision, without gradients.
    """
    for batch in batches(model, encoder.fields, encoded.examples):
        real = batch.select(torch.nonzero(batch.weights > 0).flatten()).to(model.device)
        assert int(real.columns[SEGMENTS].max()) == 1, "a text is split into several rows"
        with model.precision.autocast():
            yield real, real.columns[DOCUMENT].tolist()
