"""Predictions of a trained model for texts and rows."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from pipeline.corpus.field_spec import DOCUMENT
from pipeline.errors import ConfigError
from pipeline.inference.batching import batched
from pipeline.inference.input_encoding import InputEncoder
from pipeline.inference.outputs import OnBatch, batches, outputs
from pipeline.inference.run_input import RawInput, RunInput
from pipeline.inference.trained import TrainedModel
from pipeline.runtime.device import memory_errors
from pipeline.tasks.base.sample import Sample


def use_top_k(model: TrainedModel, top_k: int) -> None:
    """Limit `scores` of predictions to the `top_k` most probable labels; 0: the default number.

    Raises ConfigError if it is negative, or if the task's predictions have no scores of labels.
    """
    if top_k < 0:
        raise ConfigError(
            f"--top-k={top_k}: is negative; use 0 for the default, or a larger number"
        )
    if top_k and not model.task.has_scores:
        raise ConfigError(
            f"--top-k={top_k}: predictions of task.name={model.config.task.name} have no scores of "
            "labels; remove the option"
        )
    model.task.top_k = top_k


class Predictor:
    """Predicts with a trained model. The tokenizers are read once, at the first prediction."""

    def __init__(self, model: TrainedModel, on_batch: OnBatch | None = None) -> None:
        """`on_batch` is called with each batch before the model reads it."""
        self.model, self._on_batch = model, on_batch

    @cached_property
    def encoder(self) -> InputEncoder:
        """The encoder of the fields that the model reads."""
        task = self.model.task
        fields = [
            replace(field, append_end=False)
            for field in task.fields(self.model.config.corpus)
            if field.kind_class.is_input
        ]
        return InputEncoder(self.model, fields, task.prediction_overrides)

    @property
    def columns(self) -> list[str]:
        """Columns of a row that predictions need."""
        return self.encoder.columns

    @memory_errors()
    def predict(self, inputs: Sequence[RawInput]) -> list[dict[str, Any]]:
        """Return the task's prediction for each input, in order; `error` if it cannot be used."""
        encoded = self.encoder.encode(inputs)
        results: list[dict[str, Any]] = [{} for _ in inputs]
        for number, error in encoded.errors.items():
            results[number] = {"error": error}
        fields = self.encoder.fields
        for found, batch in outputs(self.model, fields, encoded.examples, on_batch=self._on_batch):
            real = batch.weights > 0
            rows = batch.columns[DOCUMENT][real].tolist()
            given = [encoded.given[row] for row in rows]
            predictions = self.model.task.predict(found[real], given)
            for row, prediction in zip(rows, predictions, strict=True):
                results[encoded.numbers[row]] = prediction
        return results

    @memory_errors()
    @torch.no_grad()
    def samples(self, item: RawInput) -> list[Sample]:
        """Return samples that display an input and its prediction, for example with attention.

        Empty if the input cannot be used, or if the task does not make samples of inputs
        (`Task.samples_of_inputs`).
        """
        task = self.model.task
        if not task.samples_of_inputs:
            return []
        encoded = self.encoder.encode([item])
        samples: list[Sample] = []
        for batch in batches(self.model, self.encoder.fields, encoded.examples):
            with self.model.precision.autocast():
                real = batch.select(batch.weights > 0).to(self.model.device)
                samples += task.samples(self.model.module, real)
        return samples

    def predict_files(
        self, given: Sequence[str], *, stream_of_rows: bool = False, rows_per_chunk: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Yield a prediction for each row or line of the input, in order.

        `given` has files, globs, folders, parallel files and streams, as `RunInput` describes; for
        `stream_of_rows`, see `RunInput.rows_and_lines`. `rows_per_chunk` inputs are batched
        together (default: `chunk_rows` of the model). If reading fails, the predictions for all
        inputs before the failure are yielded first.
        """
        model = self.model
        files = RunInput(model.config.corpus, given, self.columns, model.reads_images)
        inputs = files.rows_and_lines(stream_of_rows=stream_of_rows)
        for chunk in batched(inputs, rows_per_chunk or model.chunk_rows):
            yield from self.predict(chunk)
