"""Applies a trained run to raw input: evaluates labeled files, predicts from rows and lines.

Only the run folder is needed: it contains the config, weights, tokenizers and label names.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pipeline import tasks
from pipeline.config import Config, load_run_config
from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.dataset.manifest import Manifest, read_manifest
from pipeline.corpus.field_spec import DOCUMENT, SEGMENT_COLUMNS, FieldSpec, column_types
from pipeline.corpus.fields.encoding import EncodedExample
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.row_pipeline import RowPipeline
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.errors import HeadraceError, InputError, RunError, TrainingError
from pipeline.evaluation.by_value import ValuedDocuments, evaluate_by_value
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.inference.counts import SkipCounts, UnknownLabels
from pipeline.inference.labeled_rows import labeled_rows
from pipeline.inference.run_input import RawInput, RunInput
from pipeline.models.encoder import reversed_directions
from pipeline.models.settings import EncoderSettings
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder
from pipeline.runtime import precision
from pipeline.runtime.device import choose_device, memory_errors
from pipeline.runtime.launcher import RankInfo
from pipeline.runtime.process_group import World
from pipeline.settings import changed_keys
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import BpttStream, InMemoryTokens
from pipeline.stream.bucket import buckets
from pipeline.stream.plan import Position
from pipeline.stream.rows import Columns, columns_of
from pipeline.train.checkpointer import load_weights

logger = logging.getLogger(__name__)

TEXTS_PER_CHUNK, IMAGES_PER_CHUNK = 4096, 256
"""Rows that are sorted by length and batched together."""
WEIGHT_SHAPING_KEYS = ("image_size", "channels", "step", "patch", "features", "word_bytes")
"""Corpus keys on which the shapes of a model's weights depend."""

Outputs = Iterator[tuple[Tensor, Batch]]
"""A task's outputs for each batch, with the batch."""


class Predictor:
    """The model of a run's best checkpoint, or of another one, with the run's tokenizers."""

    @memory_errors()
    def __init__(self, run: Path, config: Config, weights: Path | None = None) -> None:
        """Load a run from its folder.

        `config` is the run's config with overrides; `weights` is a checkpoint (default: the best).
        Raises RunError if the checkpoint is missing or damaged, or an override contradicts the
        weights.
        """
        folder = RunFolder(run)
        _check_overrides(load_run_config(folder.config, trust_code=True), config)
        self.config = config
        self.manifest = read_manifest(folder.dataset)
        self._dataset = folder.dataset
        self.reads_images = any(field.kind_class.is_image for field in self.manifest.fields)
        self.chunk_rows = IMAGES_PER_CHUNK if self.reads_images else TEXTS_PER_CHUNK
        self.task = tasks.get(config.task.name)(config.task, config.model, self.manifest)
        device = choose_device(RankInfo())
        self.world = World(0, 1, device)
        self.model = self.task.build()
        path = checkpoint.resolve(weights) if weights else folder.best_checkpoint()
        if reason := checkpoint.damage(path):
            raise RunError(f"{path}: not a complete checkpoint: {reason}; use another one")
        load_weights(path, self.model)
        self.model.to(device).eval()
        self.precision = self._precision(checkpoint.precision_of(path))

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return the task's prediction for each line of text, as `predict_inputs` does."""
        return self.predict_inputs(
            [RawInput("text", Row(number, None), text) for number, text in enumerate(texts, 1)]
        )

    @memory_errors()
    def predict_inputs(self, inputs: Sequence[RawInput]) -> list[dict[str, Any]]:
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
        encoded = self._prediction_pipeline.encode(examples)
        for number, result in zip(numbers, encoded, strict=True):
            if result.skip:
                results[number] = _error(result.skip)
        for outputs, batch in self._outputs(self._input_fields, encoded):
            real = batch.weights > 0
            rows = batch.columns[DOCUMENT][real].tolist()
            predictions = self.task.predict(outputs[real], [given[row] for row in rows])
            for row, prediction in zip(rows, predictions, strict=True):
                results[numbers[row]] = prediction
        return results

    def predict_files(
        self, given: Sequence[str], *, stream_of_rows: bool = False, chunk_rows: int = 0
    ) -> Iterator[dict[str, Any]]:
        """Yield a prediction for each row or line of the input, in order.

        `given` has files, globs, folders, parallel files and streams, as `RunInput` describes; see
        there for `stream_of_rows`. `chunk_rows` inputs are batched together (default: those of the
        run). If reading fails, the predictions for all inputs before come first.
        """
        files = self._run_input(given, self._prediction_pipeline.checker.columns)
        inputs = files.rows_and_lines(stream_of_rows=stream_of_rows)
        for chunk in batched(inputs, chunk_rows or self.chunk_rows):
            yield from self.predict_inputs(chunk)

    @memory_errors()
    def evaluate(
        self, files: str | Sequence[str], *, refuse_unknown: bool = False, by: str = ""
    ) -> tuple[dict[str, Any], SkipCounts]:
        """Return the metrics over all labeled rows, and the number of skipped rows by reason.

        With a column `by`, the metrics over the rows of each of its values are returned as `by`,
        a dict from value to metrics, the value with the most rows first.

        `files` are inputs as `RunInput` describes them. Duplicate rows are not removed. The
        signature of a metric, if it has one, is returned too, and for tasks with labels or tags
        the number of those that are unknown to the run (`unknown_labels`), which count as wrong.
        Raises InputError if no row can be used, or if a label is unknown and `refuse_unknown` is
        true or the task cannot count it. Raises TrainingError for `by` with a stateful task.
        """
        if by and self.task.stateful:
            raise TrainingError(
                f"--by {by}: task.name={self.config.task.name} reads all rows as one text, which "
                "has no values; remove the option"
            )
        metrics = self.task.make_metrics(self.config.task)
        fields = self.task.fields(self.config.corpus)
        has_names = any(field.kind_class.has_names for field in fields)
        open_names = has_names and self.task.counts_unknown_labels and not refuse_unknown
        pipeline = self._pipeline(fields, open_names=open_names)
        self.task.unknown_names = pipeline.unknown_names
        skips, unknown = SkipCounts(), UnknownLabels()
        given = [files] if isinstance(files, str) else files
        columns = list(dict.fromkeys([*pipeline.checker.columns, *filter(None, [by])]))
        run_input = self._run_input(given, columns)
        read = partial(labeled_rows, run_input, pipeline, skips, by)

        def chunks() -> Iterator[tuple[list[EncodedExample], list[str]]]:
            for chunk in batched(read(), self.chunk_rows):
                encoded = pipeline.encode([item.example for item in chunk])
                for item, result in zip(chunk, encoded, strict=True):
                    if result.skip:
                        skips.add(result.skip, item.place)
                    elif names := pipeline.unknown_names_of(item.example):
                        unknown.add(names, item.place)
                yield encoded, [item.value for item in chunk]

        documents: ValuedDocuments
        if self.task.stateful:
            texts = chain.from_iterable(encoded for encoded, _ in chunks())
            documents = ((*pair, [""]) for pair in self._outputs_of_one_text(texts))
        else:
            documents = (
                (outputs, batch, [values[row] for row in batch.columns[DOCUMENT].tolist()])
                for encoded, values in chunks()
                for outputs, batch in self._outputs(fields, encoded)
            )
        documents = self._check_not_empty(documents, run_input.name, skips)
        if by:
            evaluation, by_value = evaluate_by_value(self.task, documents, self.world, metrics)
        else:
            pairs = ((outputs, batch) for outputs, batch, _ in documents)
            evaluation, _ = evaluate(self.task, pairs, self.world, metrics)
        values: dict[str, Any] = dict(evaluation.metrics)
        if by:
            values["by"] = {value: dict(found.metrics) for value, found in by_value.items()}
        values |= {f"{name}_signature": s for name, s in evaluation.signatures.items()}
        if has_names:
            values["unknown_labels"] = unknown.names.total()
        if unknown.rows:
            logger.warning(unknown.describe())
        return values, skips

    @cached_property
    def _input_fields(self) -> list[FieldSpec]:
        """The fields that the model reads."""
        fields = self.task.fields(self.config.corpus)
        return [replace(f, append_end=False) for f in fields if f.kind_class.is_input]

    @cached_property
    def _prediction_pipeline(self) -> RowPipeline:
        return self._pipeline(self._input_fields, self.task.prediction_overrides)

    def _check(self, item: RawInput) -> tuple[Example | SkipReason, Mapping[str, Any]]:
        """Return an input's example, or why there is none, and its values for `Task.predict`.

        Raises InputError for a value that reveals a wrong setting.
        """
        checker = self._prediction_pipeline.checker
        if item.line is not None:
            parsed = self.task.parse(item.line)
            raw = [parsed[field.name] for field in self._input_fields]
            return checker.check_values(item.row, raw, item.file), parsed
        example = checker.check(item.row, item.file)
        if isinstance(example, SkipReason):
            return example, {}
        names = [field.name for field in self._input_fields]
        return example, dict(zip(names, example.values, strict=True))

    def _precision(self, name: str) -> precision.Precision:
        """Return the precision that the run was trained in, or fp32 if it is not supported here."""
        device = self.world.device
        try:
            return precision.choose(name, device, self.config.model)
        except TrainingError:
            logger.info(
                "the run was trained in %s, which is not supported here; using fp32 instead", name
            )
            return precision.Precision("fp32", device)

    @staticmethod
    def _check_not_empty(
        documents: ValuedDocuments, name: str, skips: SkipCounts
    ) -> ValuedDocuments:
        """Yield the documents. Raises InputError if there are none."""
        first = None
        for first in documents:
            yield first
        if first is None:
            reason = "; ".join(skips.describe()) or "it has no rows"
            raise InputError(
                f"{name}: no row is left to evaluate ({reason}); give a file with usable rows"
            )

    def _run_input(self, given: Sequence[str], columns: Sequence[str]) -> RunInput:
        return RunInput(self.config.corpus, given, columns, self.reads_images)

    def _pipeline(
        self,
        fields: Sequence[FieldSpec],
        overrides: Mapping[str, str] | None = None,
        *,
        open_names: bool = False,
    ) -> RowPipeline:
        """Return a row pipeline for some of the run's fields, without filters."""
        corpus = self.config.corpus.model_copy(update={"filters": {}, **(overrides or {})})
        return RowPipeline(
            corpus,
            fields,
            lambda name: self._dataset / f"{name}.json",
            self.manifest.names,
            open_names=open_names,
        )

    def _outputs_of_one_text(self, encoded: Iterable[EncodedExample]) -> Outputs:
        """Yield the outputs of a stateful task; the tokens of all rows are one text, in memory."""
        rows = [np.asarray(cells[0], np.int64) for result in encoded for cells in result.rows]
        if not rows:
            return
        settings = self.config.stream.model_copy(update={"batch_rows": 1})
        assert isinstance(self.config.model, EncoderSettings), "a stateful task without an encoder"
        reverse = reversed_directions(self.config.model)
        source = InMemoryTokens("--input", np.concatenate(rows))
        stream = BpttStream(source, settings, 0, reverse=reverse)
        batches = (batch for update in stream.epoch(Position()) for batch in update.batches)
        yield from document_outputs(self.task, self.model, batches, self.precision, self.world)

    def _outputs(self, fields: Sequence[FieldSpec], encoded: Sequence[EncodedExample]) -> Outputs:
        """Yield the task's outputs for examples; the `document` of a row is its example's index."""
        cells = [row for result in encoded for row in result.rows]
        if not cells:
            return
        segments = np.array([len(result.rows) for result in encoded])
        document = np.repeat(np.arange(len(encoded)), segments)
        segment = np.concatenate([np.arange(count) for count in segments])
        positions = (document, segment, segments[document])
        rows: Columns = {
            **columns_of(_types_in_memory(fields, self.manifest), cells),
            **dict(zip(SEGMENT_COLUMNS, positions, strict=True)),
        }
        batches = buckets(rows, self.config.stream.token_budget)
        yield from document_outputs(self.task, self.model, batches, self.precision, self.world)


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items; the last may be shorter.

    If an item cannot be read, the list of those before comes first, then the HeadraceError.
    """
    chunk: list[Any] = []
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except HeadraceError:
        if chunk:
            yield chunk
        raise
    if chunk:
        yield chunk


def _types_in_memory(fields: Sequence[FieldSpec], manifest: Manifest) -> dict[str, ColumnType]:
    """Return the types of the columns of encoded rows.

    Lists of label indices are wider than in shards, because unknown labels have indices too.
    """
    types = column_types(fields, manifest.vocabularies, manifest.names)
    for field in fields:
        if field.kind_class.has_names and types[field.name].is_list:
            types[field.name] = ColumnType("int64", is_list=True)
    return types


def _check_overrides(trained: Config, overridden: Config) -> None:
    """Raise RunError, with a line for each override that contradicts the weights."""
    changed = changed_keys(trained.model, overridden.model, "model.")
    changed |= changed_keys(trained.corpus, overridden.corpus, "corpus.")
    fixed = {f"corpus.{key}" for key in WEIGHT_SHAPING_KEYS} | {
        f"model.{key}" for key in type(overridden.model).model_fields if key != "native"
    }
    if mistakes := [
        f"{key}={new}: the weights of this run were trained with {old}; leave it out"
        for key, (old, new) in changed.items()
        if key in fixed
    ]:
        raise RunError(mistakes)


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
