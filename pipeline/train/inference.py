"""A trained run at work on raw texts: evaluation of labelled files, prediction of lines.

A run folder holds all that this needs: config, weights, tokeniser and the names of the labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline import tasks
from pipeline.config import Config
from pipeline.corpus.dataset import read_manifest
from pipeline.corpus.fields import text_and_label
from pipeline.corpus.inputs import resolve
from pipeline.corpus.labels import label_index
from pipeline.corpus.readers import read
from pipeline.corpus.rows import MEANING, Example, Skip, Wanted
from pipeline.corpus.tokenizer import Encoder
from pipeline.errors import RunError, TrainingError
from pipeline.stream.batch import Batch, collate
from pipeline.stream.plan import bin_edges, cut
from pipeline.stream.rows import Ragged, Rows
from pipeline.train import checkpoint, precision
from pipeline.train.distributed import World, use_one_core
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
        self.encoder = Encoder(tokenizer, corpus.max_tokens, corpus.keep)
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
        device, model = self.world.device, self.config.model
        try:
            return precision.choose(name, device, model.cell, model.hidden, say)
        except TrainingError:
            say(f"the run was trained in {name}, which does not run here; computing in fp32")
            return precision.Precision("fp32", device)

    @torch.no_grad()
    def predict(self, texts: Sequence[str]) -> list[dict[str, Any]]:
        """What the task says of each text, in their order; `error` for one without a token."""
        tokens = self.encoder.encode([text.strip() and text for text in texts])
        found: list[dict[str, Any]] = [{"error": "the text is empty"}] * len(texts)
        for rows, batch in self._batches(tokens, {}):
            with self.precision.autocast():
                predictions = self.task.predict(self.model, batch.to(self.world.device))
            for row, prediction in zip(rows, predictions, strict=True):
                found[row] = prediction
        return found

    def evaluate(self, pattern: str) -> tuple[dict[str, float], dict[Skip, int]]:
        """Metrics over the labelled rows of a file (or of several, by glob), duplicates too, and
        how many rows were skipped as they hold no text or no label.

        Raises InputError for a label that the run does not know.
        """
        corpus = self.config.corpus.model_copy(update={"where": {}})
        wanted = Wanted.of(corpus, self.task.fields(corpus))
        _, label = text_and_label(self.task.fields(corpus))
        skips: Counter[Skip] = Counter()

        def batches() -> Iterator[Batch]:
            examples = self._examples(resolve([pattern], "."), wanted, skips)
            for chunk in _chunks(examples, CHUNK):
                tokens = self.encoder.encode([text for text, _ in chunk])
                skips[Skip.NO_TOKENS] += sum(not row for row in tokens)
                columns = {label.name: [index for _, index in chunk]} if label else {}
                yield from (batch for _, batch in self._batches(tokens, columns))

        evaluation, _ = evaluate(self.task, self.model, batches(), self.precision, self.world)
        return evaluation.metrics, +skips

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

    def _batches(
        self, tokens: list[list[int]], columns: dict[str, list[int]]
    ) -> Iterator[tuple[list[int], Batch]]:
        """Batches of similar length within the token budget, each with its rows' places."""
        lengths = np.array([len(row) for row in tokens])
        order = np.argsort(-lengths, kind="stable")
        order = order[: np.count_nonzero(lengths)]
        if not len(order):
            return
        values = np.concatenate([np.asarray(row, np.int64) for row in tokens])
        beyond = np.zeros(int(lengths.max()), np.int64)  # a row is gathered with what follows it
        ragged = Ragged(np.concatenate([values, beyond]), np.cumsum(lengths) - lengths, lengths)
        others = {name: np.array(values) for name, values in columns.items()}
        nothing = np.zeros(len(lengths), np.int64)
        rows = Rows({"tokens": ragged, **others}, np.ones(len(lengths), np.float32), nothing)
        rows = rows.take(order, nothing[order])
        edges = bin_edges(int(lengths.max()))
        padded = edges[np.searchsorted(edges, lengths[order])]
        for piece in cut(padded, self.config.stream.token_budget):
            own = slice(piece.start, piece.stop)
            batch = collate(rows, own, size=piece.stop - piece.start, length=piece.length)
            yield order[own].tolist(), batch


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
