"""A trained run at work on raw texts: evaluation of labelled files, prediction of lines.

A run folder holds all that this needs: config, weights, tokeniser and the names of the labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline import tasks
from pipeline.config import Config
from pipeline.corpus.dataset import read_manifest
from pipeline.corpus.fields import DOCUMENT, SEGMENT_COLUMNS, text_and_label
from pipeline.corpus.inputs import resolve
from pipeline.corpus.labels import label_index
from pipeline.corpus.readers import read
from pipeline.corpus.rows import MEANING, Example, Skip, Wanted
from pipeline.corpus.tokenizer import Encoded, Encoder
from pipeline.errors import RunError, TrainingError
from pipeline.stream.batch import Batch
from pipeline.stream.bucket import buckets
from pipeline.stream.rows import Columns, Ragged
from pipeline.train import checkpoint, precision
from pipeline.train.distributed import World, use_one_core
from pipeline.train.documents import documents
from pipeline.train.evaluate import evaluate
from pipeline.train.run import RunFolder

CHUNK = 4096
"""Texts that are sorted by length and batched together."""


class Predictor:
    """A run's best checkpoint, or another, with its tokeniser."""

    def __init__(
        self, run: Path, config: Config, say: Callable[[str], None], weights: Path | None = None
    ) -> None:
        folder = RunFolder(run)
        self.config = config
        self.manifest = read_manifest(folder.dataset)
        corpus = config.corpus
        tokenizer = folder.dataset / "tokenizer.json"
        self.encoder = Encoder(tokenizer, corpus.max_tokens, corpus.keep, corpus.long_texts)
        self.task = tasks.get(config.task.name)(
            config.model, self.manifest.tokenizer.vocab_size, self.manifest.label_names
        )
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
        encoded = self.encoder.encode([text.strip() and text for text in texts])
        errors = {
            Skip.NO_TOKENS: "the text is empty",
            Skip.TOO_LONG: f"the text has {MEANING[Skip.TOO_LONG]}",
        }
        found = [{"error": errors[text.skip]} if text.skip else {} for text in encoded]
        for outputs, batch in self._documents(encoded, {}):
            whole = batch.weights > 0
            places = batch.columns[DOCUMENT][whole].tolist()
            for place, prediction in zip(places, self.task.predict(outputs[whole]), strict=True):
                found[place] = prediction
        return found

    def evaluate(self, pattern: str) -> tuple[dict[str, float], dict[Skip, int]]:
        """Metrics over the labelled rows of a file (or of several, by glob), duplicates too, and
        how many rows were skipped as they hold no text or no label, or are too long.

        Raises InputError for a label that the run does not know.
        """
        corpus = self.config.corpus.model_copy(update={"where": {}})
        wanted = Wanted.of(corpus, self.task.fields(corpus))
        _, label = text_and_label(self.task.fields(corpus))
        skips: Counter[Skip] = Counter()

        def judged() -> Iterator[tuple[Tensor, Batch]]:
            examples = self._examples(resolve([pattern], "."), wanted, skips)
            for chunk in _chunks(examples, CHUNK):
                encoded = self.encoder.encode([text for text, _ in chunk])
                skips.update(text.skip for text in encoded if text.skip)
                columns = {label.name: [index for _, index in chunk]} if label else {}
                yield from self._documents(encoded, columns)

        evaluation, _ = evaluate(self.task, judged(), self.world)
        return evaluation.metrics, skips

    def _examples(
        self, paths: list[Path], wanted: Wanted, skips: Counter[Skip]
    ) -> Iterator[tuple[str, int]]:
        """Texts with the indices of their labels."""
        names = list(self.manifest.label_names)
        for path in paths:
            for row in read(path, wanted.columns):
                example = wanted.examine(row)
                if isinstance(example, Example):
                    where = f"{path}:{row.number}"
                    yield example.text, label_index(example.label or "", names, where)
                else:
                    skips[example] += 1

    def _documents(
        self, texts: Sequence[Encoded], columns: Mapping[str, Sequence[int]]
    ) -> Iterator[tuple[Tensor, Batch]]:
        """The task's outputs of those texts that have a row; `columns` has a value a text."""
        ids = [row for text in texts for row in text.rows]
        if not ids:
            return
        segments = np.array([len(text.rows) for text in texts])
        document = np.repeat(np.arange(len(texts)), segments)
        segment = np.concatenate([np.arange(count) for count in segments])
        places = (document, segment, segments[document])
        rows: Columns = {
            "tokens": Ragged.of(
                np.concatenate([np.asarray(row, np.int64) for row in ids]),
                np.array([len(row) for row in ids]),
            ),
            **{name: np.array(values)[document] for name, values in columns.items()},
            **dict(zip(SEGMENT_COLUMNS, places, strict=True)),
        }
        batches = buckets(rows, self.config.stream.token_budget)
        yield from documents(self.task, self.model, batches, self.precision, self.world)


def lines(source: Iterable[str], predictor: Predictor, chunk: int) -> Iterator[dict[str, Any]]:
    """A prediction for each line, in order."""
    for texts in _chunks((line.rstrip("\r\n") for line in source), chunk):
        yield from predictor.predict(texts)


def describe_skips(skips: dict[Skip, int]) -> list[str]:
    return [f"skipped {count:,} row(s): {MEANING[skip]}" for skip, count in skips.items()]


def _chunks(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
