"""Applies a trained run to raw input: evaluates labeled files, predicts lines.

Only the run folder is needed: it contains the config, weights, tokenizers and label names.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pipeline import tasks
from pipeline.config import Config, load_run_config
from pipeline.corpus.dataset.blocks import schema
from pipeline.corpus.dataset.manifest import read_manifest
from pipeline.corpus.field_spec import DOCUMENT, SEGMENT_COLUMNS, FieldSpec
from pipeline.corpus.fields.encoding import EncodedExample
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.row_pipeline import RowPipeline
from pipeline.corpus.readers.inputs import Inputs, InputSource, resolve
from pipeline.corpus.readers.materialize import open_rows
from pipeline.corpus.readers.opening import find_reader
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.errors import InputError, RunError, TrainingError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.segment_merging import document_outputs
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

        `config` is the run's config with overrides; `weights` is another checkpoint than the best.
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

    @memory_errors()
    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """Return the task's prediction for each text, in order, or an `error` if it has no row."""
        fields = [
            replace(f, append_end=False) for f in self.manifest.fields if f.kind_class.is_input
        ]
        pipeline = self._pipeline(fields, **self.task.prediction_overrides)
        inputs = [self.task.parse(text) for text in texts]
        results: list[dict[str, Any]] = [{} for _ in texts]
        examples: list[Example] = []
        for number, values in enumerate(inputs, 1):
            row = Row(number, {field.column: values[field.name] for field in fields})
            try:
                example = pipeline.checker.check(row, "line")
            except InputError as error:
                results[number - 1] = {"error": str(error)}
                continue
            if isinstance(example, SkipReason):
                results[number - 1] = _error(example)
            else:
                examples.append(example)
        encoded = pipeline.encode(examples)
        for example, result in zip(examples, encoded, strict=True):
            if result.skip:
                results[example.row - 1] = _error(result.skip)
        for outputs, batch in self._outputs(fields, encoded):
            real = batch.weights > 0
            rows = [examples[n].row - 1 for n in batch.columns[DOCUMENT][real].tolist()]
            predictions = self.task.predict(outputs[real], [inputs[row] for row in rows])
            for row, prediction in zip(rows, predictions, strict=True):
                results[row] = prediction
        return results

    @memory_errors()
    def evaluate(self, files: str) -> tuple[dict[str, Any], dict[SkipReason, int]]:
        """Return the metrics over all labeled rows, and the number of skipped rows by reason.

        `files` is a file, a glob, a folder of images, or parallel files as COLUMN=FILE,COLUMN=FILE.
        Duplicate rows are not removed. The signature of a metric, if it has one, is returned too.
        Raises InputError if a label is unknown to the run, or if no row can be used.
        """
        metrics = self.task.make_metrics(self.config.task)
        fields = self.task.fields(self.config.corpus)
        pipeline = self._pipeline(fields)
        skips: Counter[SkipReason] = Counter()
        inputs = self._inputs(files, pipeline.checker.columns)
        sources = resolve(inputs, images=self.reads_images)

        def chunks() -> Iterator[list[EncodedExample]]:
            examples = self._examples(sources, pipeline, skips)
            for chunk in batched(examples, self.chunk_rows):
                encoded = pipeline.encode(chunk)
                skips.update(result.skip for result in encoded if result.skip)
                yield encoded

        if self.task.stateful:
            outputs = self._outputs_of_one_text(chain.from_iterable(chunks()))
        else:
            outputs = (pair for chunk in chunks() for pair in self._outputs(fields, chunk))
        outputs = self._check_not_empty(outputs, files, skips)
        evaluation, _ = evaluate(self.task, outputs, self.world, metrics)
        signatures = {f"{name}_signature": s for name, s in evaluation.signatures.items()}
        return {**evaluation.metrics, **signatures}, skips

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
    def _check_not_empty(outputs: Outputs, files: str, skips: Counter[SkipReason]) -> Outputs:
        """Yield the outputs. Raises InputError if there are none."""
        first = None
        for first in outputs:
            yield first
        if first is None:
            reason = "; ".join(describe_skips(skips)) or "it has no rows"
            raise InputError(
                f"--input {files}: no row is left to evaluate ({reason}); give a file with usable "
                "rows"
            )

    def _inputs(self, files: str, columns: Sequence[str]) -> Inputs:
        """Return the parallel files by column, or the file, glob or folder.

        Raises InputError if the run was trained on parallel files and `files` is of neither form.
        """
        pairs = [part.partition("=") for part in files.split(",")]
        by_column = {column: [file] for column, _, file in pairs if file}
        if len(by_column) == len(pairs) and set(by_column) == set(columns):
            return by_column
        if isinstance(self.config.corpus.input, dict) and not Path(files).is_dir():
            try:
                find_reader(Path(files), files, self.config.corpus.format)
            except InputError:
                form = ",".join(f"{column}=FILE" for column in columns)
                raise InputError(
                    f"--input {files}: is not a file of rows, and the columns of this run are in "
                    f"parallel files; give {form}"
                ) from None
        return [files]

    def _pipeline(self, fields: Sequence[FieldSpec], **overrides: str) -> RowPipeline:
        """Return a row pipeline for some of the run's fields, without filters."""
        corpus = self.config.corpus.model_copy(update={"filters": {}, **overrides})
        return RowPipeline(
            corpus, fields, lambda name: self._dataset / f"{name}.json", self.manifest.names
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

    def _examples(
        self, sources: Sequence[InputSource], pipeline: RowPipeline, skips: Counter[SkipReason]
    ) -> Iterator[Example]:
        """Yield the usable rows of all files, and count the others in `skips`."""
        for source in sources:
            with open_rows(self.config.corpus, source, pipeline.checker.columns) as rows:
                yield from pipeline.examples(
                    rows, source.name, lambda reason, row: skips.update([reason])
                )

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
            **columns_of(schema(fields, self.manifest.vocabularies), cells),
            **dict(zip(SEGMENT_COLUMNS, positions, strict=True)),
        }
        batches = buckets(rows, self.config.stream.token_budget)
        yield from document_outputs(self.task, self.model, batches, self.precision, self.world)


def predict_lines(
    lines: Iterable[str], predictor: Predictor, chunk_rows: int
) -> Iterator[dict[str, Any]]:
    """Yield a prediction for each line, in order."""
    for texts in batched((line.rstrip("\r\n") for line in lines), chunk_rows):
        yield from predictor.predict(texts)


def describe_skips(skips: Mapping[SkipReason, int]) -> list[str]:
    """Return a line for each skip reason, with its number of rows."""
    return [f"skipped {n:,} row(s): {SKIP_DESCRIPTIONS[reason]}" for reason, n in skips.items()]


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of `size` items; the last may be shorter."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


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


def _error(reason: SkipReason) -> dict[str, Any]:
    """Return the prediction for an input that has no row."""
    if reason in (SkipReason.NO_TEXT, SkipReason.NO_WORDS, SkipReason.NO_TOKENS):
        return {"error": "the text is empty"}
    if reason is SkipReason.NO_FILE:
        return {"error": "no such file"}
    if reason is SkipReason.NO_IMAGE:
        return {"error": "no PNG or JPEG that can be read"}
    if reason is SkipReason.NO_FEATURES:
        return {"error": "no .npy of features that can be read"}
    return {"error": f"the text has {SKIP_DESCRIPTIONS[reason]}"}
