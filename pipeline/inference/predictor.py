"""A trained run at work on raw texts: evaluation of labeled files, prediction of lines.

A run folder holds all that this needs: config, weights, tokenizer and the names of the labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import tasks
from pipeline.config import Config
from pipeline.corpus.dataset.blocks import schema
from pipeline.corpus.dataset.manifest import read_manifest
from pipeline.corpus.field_spec import DOCUMENT, SEGMENT_COLUMNS, FieldSpec
from pipeline.corpus.fields.encoding import EncodedExample, ExampleEncoder
from pipeline.corpus.fields.example import Example, RowChecker
from pipeline.corpus.readers.inputs import Inputs, InputSource, resolve
from pipeline.corpus.readers.materialize import open_rows
from pipeline.corpus.readers.opening import detect_format
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.corpus.tokenization.tokenizer import TextEncoder
from pipeline.errors import InputError, RunError, TrainingError
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder
from pipeline.runtime import precision
from pipeline.runtime.process_group import World, use_one_core
from pipeline.settings import changed_keys
from pipeline.stream.batch import Batch
from pipeline.stream.bptt import BpttStream, InMemoryTokens
from pipeline.stream.bucket import buckets
from pipeline.stream.plan import Position
from pipeline.stream.rows import Columns, columns_of

TEXTS, IMAGES = 4096, 256
"""Rows that are sorted by length and batched together."""
TRAINED_ON = ("image_size", "channels", "step", "patch", "features", "word_bytes")
"""Keys of the corpus that the shape of a model's weights hangs on."""


class Predictor:
    """A run's best checkpoint, or another, with its tokenizer."""

    def __init__(
        self, run: Path, config: Config, say: Callable[[str], None], weights: Path | None = None
    ) -> None:
        folder = RunFolder(run)
        _check_overrides(folder.read_config(), config)
        self.config = config
        self.manifest = read_manifest(folder.dataset)
        self._dataset = folder.dataset
        pictured = any(field.is_image for field in self.manifest.fields)
        self.chunk = IMAGES if pictured else TEXTS
        self.task = tasks.get(config.task.name)(config.task, config.model, self.manifest)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if device.type == "cpu":
            use_one_core()
        self.world = World(0, 1, device)
        self.model = self.task.build()
        path = weights or folder.best()
        if reason := checkpoint.damage(path):
            raise RunError(f"{path}: not a whole checkpoint: {reason}; use another one")
        checkpoint.load(path, self.model)
        self.model.to(device).eval()
        self.precision = self._precision(checkpoint.precision_of(path), say)

    def _precision(self, name: str, say: Callable[[str], None]) -> precision.Precision:
        """The one that the run was trained in, or fp32 where that does not run."""
        device = self.world.device
        try:
            return precision.choose(name, device, self.config.model, say)
        except TrainingError:
            say(f"the run was trained in {name}, which does not run here; computing in fp32")
            return precision.Precision("fp32", device)

    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """What the task says of each text, in their order; `error` for one that has no row."""
        fields = [replace(f, append_end=False) for f in self.manifest.fields if f.is_input]
        encoding = self._encoding(fields, **self.task.prediction_overrides)
        given = [self.task.parse(text) for text in texts]
        found: list[dict[str, Any]] = [{} for _ in texts]
        places, examples = [], []
        for place, values in enumerate(given):
            try:
                example = encoding.checker.check(Row(place + 1, _by_column(fields, values)), "line")
            except InputError as error:
                found[place] = {"error": str(error)}
                continue
            if isinstance(example, SkipReason):
                found[place] = _error(example)
            else:
                places.append(place)
                examples.append(example.values)
        encoded = encoding.encode(examples)
        for place, text in zip(places, encoded, strict=True):
            if text.skip:
                found[place] = _error(text.skip)
        for outputs, batch in self._documents(fields, encoded):
            whole = batch.weights > 0
            of = [places[place] for place in batch.columns[DOCUMENT][whole].tolist()]
            told = self.task.predict(outputs[whole], [given[place] for place in of])
            for place, prediction in zip(of, told, strict=True):
                found[place] = prediction
        return found

    def evaluate(self, given: str) -> tuple[dict[str, Any], dict[SkipReason, int]]:
        """Metrics over the labeled rows of a file (or of several, by glob), duplicates too, and
        how many rows were skipped as they hold no text or no label, or are too long. Beside the
        metrics stand the signatures of those that have one. Files that lie side by side are given
        as COLUMN=FILE,COLUMN=FILE; images may be given as a folder.

        Raises InputError for a label that the run does not know.
        """
        self.task.check_libraries()
        fields = self.task.fields(self.config.corpus)
        encoding = self._encoding(fields)
        skips: Counter[SkipReason] = Counter()
        files = self._inputs(given, encoding.checker.columns)
        sources = resolve(files, images=self.config.task.name == "images")

        def chunks() -> Iterator[list[EncodedExample]]:
            examples = self._examples(sources, encoding, skips)
            for chunk in _chunks(examples, self.chunk):
                encoded = encoding.encode(chunk)
                skips.update(text.skip for text in encoded if text.skip)
                yield encoded

        if self.task.stateful:
            judged = self._running(chain.from_iterable(chunks()))
        else:
            judged = (found for chunk in chunks() for found in self._documents(fields, chunk))
        evaluation, _ = evaluate(self.task, self._some(judged, given, skips), self.world)
        signatures = {f"{name}_signature": s for name, s in evaluation.signatures.items()}
        return {**evaluation.metrics, **signatures}, skips

    @staticmethod
    def _some(
        judged: Iterable[tuple[Tensor, Batch]], given: str, skips: Counter[SkipReason]
    ) -> Iterator[tuple[Tensor, Batch]]:
        """The same. Raises InputError if there is nothing."""
        first = None
        for first in judged:
            yield first
        if first is None:
            why = "; ".join(describe_skips(skips)) or "it has none"
            raise InputError(
                f"no row is left to evaluate of {given}: {why}; give a file that has one"
            )

    def _inputs(self, given: str, columns: Sequence[str]) -> Inputs:
        """The files that a person names."""
        pairs = [part.partition("=") for part in given.split(",")]
        files = {column: [file] for column, _, file in pairs if file}
        if len(files) == len(pairs) and set(files) == set(columns):
            return files
        if isinstance(self.config.corpus.input, dict) and not Path(given).is_dir():
            try:
                detect_format(Path(given), given, self.config.corpus.format)
            except InputError:
                wanted = ",".join(f"{column}=FILE" for column in columns)
                raise InputError(
                    f"--input {given}: is no file of rows, as the columns of this run lie side by "
                    f"side; give {wanted}"
                ) from None
        return [given]

    def _encoding(self, fields: Sequence[FieldSpec], **changes: str) -> ExampleEncoder:
        """For some of the run's fields, by its settings but for `changes`; no row is filtered."""
        corpus = self.config.corpus.model_copy(update={"filters": {}, **changes})
        encoders = {
            name: TextEncoder(
                self._dataset / f"{name}.json",
                corpus.max_tokens,
                corpus.truncation_side,
                corpus.overflow,
            )
            for name in self.manifest.tokenizers
        }
        return ExampleEncoder(RowChecker.of(corpus, fields), encoders, self.manifest.names)

    def _running(self, encoded: Iterable[EncodedExample]) -> Iterator[tuple[Tensor, Batch]]:
        """The task's outputs of examples that are one text, all of whose tokens are held, for a
        task that carries its state along."""
        rows = [np.asarray(cells[0], np.int64) for text in encoded for cells in text.rows]
        if not rows:
            return
        settings = self.config.stream.model_copy(update={"batch_rows": 1})
        turned = self.config.model.reversed_directions
        text = BpttStream(
            InMemoryTokens("--input", np.concatenate(rows)), settings, 0, turned=turned
        )
        batches = (batch for update in text.epoch(Position()) for batch in update.batches)
        yield from document_outputs(self.task, self.model, batches, self.precision, self.world)

    def _examples(
        self, sources: Sequence[InputSource], encoding: ExampleEncoder, skips: Counter[SkipReason]
    ) -> Iterator[tuple[Any, ...]]:
        """The values of usable rows, whose names are known."""
        wanted = encoding.checker
        for source in sources:
            with open_rows(self.config.corpus, source, wanted.columns) as rows:
                for row in rows:
                    example = wanted.check(row, source.name)
                    if isinstance(example, Example):
                        encoding.check_names(example.values, f"{source.name}:{row.number}")
                        yield example.values
                    else:
                        skips[example] += 1

    def _documents(
        self, fields: Sequence[FieldSpec], encoded: Sequence[EncodedExample]
    ) -> Iterator[tuple[Tensor, Batch]]:
        """The task's outputs of those examples that have a row."""
        rows_of = [row for text in encoded for row in text.rows]
        if not rows_of:
            return
        segments = np.array([len(text.rows) for text in encoded])
        document = np.repeat(np.arange(len(encoded)), segments)
        segment = np.concatenate([np.arange(count) for count in segments])
        places = (document, segment, segments[document])
        rows: Columns = {
            **columns_of(schema(fields, self.manifest.vocabularies), rows_of),
            **dict(zip(SEGMENT_COLUMNS, places, strict=True)),
        }
        batches = buckets(rows, self.config.stream.token_budget)
        yield from document_outputs(self.task, self.model, batches, self.precision, self.world)


def _check_overrides(trained: Config, given: Config) -> None:
    """Raises RunError for a setting that is not the one that the weights were trained with."""
    changed = changed_keys(trained.model, given.model, "model.")
    changed |= changed_keys(trained.corpus, given.corpus, "corpus.")
    shaping = {f"corpus.{key}" for key in TRAINED_ON} | {
        f"model.{key}" for key in type(given.model).model_fields if key != "native"
    }
    if mistakes := [
        f"{key}={new}: the weights of this run were trained with {old}; leave it out"
        for key, (old, new) in changed.items()
        if key in shaping
    ]:
        raise RunError(mistakes)


def _by_column(fields: Sequence[FieldSpec], values: Mapping[str, Any]) -> dict[str, Any]:
    """What `Task.parse` says of fields, as it would stand in a file."""
    return {field.column: values[field.name] for field in fields}


def _error(skip: SkipReason) -> dict[str, Any]:
    if skip in (SkipReason.NO_TEXT, SkipReason.NO_WORDS, SkipReason.NO_TOKENS):
        return {"error": "the text is empty"}
    if skip is SkipReason.NO_FILE:
        return {"error": "no such file"}
    if skip is SkipReason.NO_IMAGE:
        return {"error": "no PNG or JPEG that can be read"}
    if skip is SkipReason.NO_FEATURES:
        return {"error": "no .npy of features that can be read"}
    return {"error": f"the text has {SKIP_DESCRIPTIONS[skip]}"}


def lines(source: Iterable[str], predictor: Predictor, chunk: int) -> Iterator[dict[str, Any]]:
    """A prediction for each line, in order."""
    for texts in _chunks((line.rstrip("\r\n") for line in source), chunk):
        yield from predictor.predict(texts)


def describe_skips(skips: dict[SkipReason, int]) -> list[str]:
    return [f"skipped {count:,} row(s): {SKIP_DESCRIPTIONS[skip]}" for skip, count in skips.items()]


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
