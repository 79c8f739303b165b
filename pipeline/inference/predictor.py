"""Predictions of a trained model for texts and rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch

from pipeline.corpus.field_spec import DOCUMENT, FieldSpec
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.row_pipeline import RowPipeline
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.errors import InputError
from pipeline.inference.batching import batched
from pipeline.inference.outputs import batches_of, outputs, row_pipeline
from pipeline.inference.run_input import RawInput, RunInput
from pipeline.inference.trained import TrainedModel
from pipeline.runtime.device import memory_errors
from pipeline.tasks.base.sample import Sample


class Predictor:
    """Predicts with a trained model. It reads the tokenizers once, at the first prediction."""

    def __init__(self, model: TrainedModel) -> None:
        self.model = model

    @property
    def columns(self) -> list[str]:
        """Columns of a row that predictions need."""
        return list(self._pipeline.checker.columns)

    @memory_errors()
    def predict(self, inputs: Sequence[RawInput]) -> list[dict[str, Any]]:
        """Return the task's prediction for each input, in order, or an `error` if it has none."""
        results: list[dict[str, Any]] = [{} for _ in inputs]
        given: list[Mapping[str, Any]] = []
        examples: list[Example] = []
        numbers: list[int] = []  # the input of each example
        for number, item in enumerate(inputs):
            try:
                example, values = self._check(item)
            except InputError as error:
                results[number] = {"error": str(error)}
                continue
            if isinstance(example, SkipReason):
                is_row = item.line is None and item.row.values is None
                results[number] = _error(example, is_row=is_row)
                continue
            examples.append(example)
            given.append(values)
            numbers.append(number)
        encoded = self._pipeline.encode(examples)
        for number, result in zip(numbers, encoded, strict=True):
            if result.skip:
                results[number] = _error(result.skip)
        for found, batch in outputs(self.model, self._fields, encoded):
            real = batch.weights > 0
            rows = batch.columns[DOCUMENT][real].tolist()
            predictions = self.model.task.predict(found[real], [given[row] for row in rows])
            for row, prediction in zip(rows, predictions, strict=True):
                results[numbers[row]] = prediction
        return results

    @memory_errors()
    @torch.no_grad()
    def samples(self, item: RawInput) -> list[Sample]:
        """Return an input with its prediction as samples to display, such as with attention.

        There are none if the input cannot be used, or if the task does not make samples of inputs
        (`Task.samples_of_inputs`).
        """
        task = self.model.task
        if not task.samples_of_inputs:
            return []
        example, _ = self._check(item)
        if isinstance(example, SkipReason):
            return []
        samples: list[Sample] = []
        for batch in batches_of(self.model, self._fields, self._pipeline.encode([example])):
            with self.model.precision.autocast():
                real = batch.select(batch.weights > 0).to(self.model.device)
                samples += task.samples(self.model.module, real)
        return samples

    def predict_files(
        self, given: Sequence[str], *, stream_of_rows: bool = False, rows_per_chunk: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Yield a prediction for each row or line of the input, in order.

        `given` has files, globs, folders, parallel files and streams, as `RunInput` describes; see
        there for `stream_of_rows`. `rows_per_chunk` inputs are batched together (default:
        `chunk_rows` of the model). If reading fails, the predictions for all inputs before come
        first.
        """
        model = self.model
        files = RunInput(model.config.corpus, given, self.columns, model.reads_images)
        inputs = files.rows_and_lines(stream_of_rows=stream_of_rows)
        for chunk in batched(inputs, rows_per_chunk or model.chunk_rows):
            yield from self.predict(chunk)

    @cached_property
    def _fields(self) -> list[FieldSpec]:
        """The fields that the model reads."""
        fields = self.model.task.fields(self.model.config.corpus)
        return [replace(f, append_end=False) for f in fields if f.kind_class.is_input]

    @cached_property
    def _pipeline(self) -> RowPipeline:
        return row_pipeline(self.model, self._fields, self.model.task.prediction_overrides)

    def _check(self, item: RawInput) -> tuple[Example | SkipReason, Mapping[str, Any]]:
        """Return an input's example, or why there is none, and its values for `Task.predict`.

        Raises InputError for a value that reveals a wrong setting.
        """
        checker = self._pipeline.checker
        if item.line is not None:
            parsed = self.model.task.parse(item.line)
            raw = [parsed[field.name] for field in self._fields]
            return checker.check_values(item.row, raw, item.file), parsed
        example = checker.check(item.row, item.file)
        if isinstance(example, SkipReason):
            return example, {}
        names = [field.name for field in self._fields]
        return example, dict(zip(names, example.values, strict=True))


def _error(reason: SkipReason, *, is_row: bool = False) -> dict[str, Any]:
    """Return the prediction for an input that cannot be used. `is_row` is whether it is a row that
    cannot be read."""
    if reason in (SkipReason.NO_TEXT, SkipReason.NO_WORDS, SkipReason.NO_TOKENS):
        return {"error": "the text is empty"}
    if reason is SkipReason.NO_FILE:
        return {"error": "no such file"}
    if reason is SkipReason.NO_IMAGE:
        return {"error": "no PNG or JPEG that can be read"}
    if reason is SkipReason.NO_FEATURES:
        return {"error": "no .npy of features that can be read"}
    return {"error": f"the {'row' if is_row else 'text'} has {SKIP_DESCRIPTIONS[reason]}"}
