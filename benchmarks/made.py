"""Made raw files in the shape of a config's corpus, for machines that do not have it.

As many words a row on average as the real one has tokens (log-normal, cut at the config's longest),
as many different ones as the config's vocabulary takes tokens, the k-th likeliest drawn as often as
1 / k: nearly all are one token, of subwords too, and these fill the vocabulary. Pixels are noise.
What is said means nothing, so only speed can be measured on them.
"""

import csv
import gzip
import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import Config

HELD_OUT = 64
"""Rows for validation, which is not measured."""


@dataclass(frozen=True)
class Shape:
    """Of the rows of a corpus."""

    tokens: float
    """Mean of a row."""
    sigma: float
    """Of the logarithm of their number."""
    words: int = 0
    """In use, if they are not as many as the config's vocabulary takes."""


class Words:
    """Rows of words a, b, ..., z, aa, ab, ...; among the first are all that there are."""

    def __init__(self, config: Config, shape: Shape) -> None:
        self._shape, self._longest = shape, config.corpus.max_tokens
        self._words = shape.words or config.corpus.vocab_size
        self._draw = np.random.default_rng(0)
        self._begun = False

    def lengths(self, rows: int) -> NDArray[np.int64]:
        shape = self._shape
        mean = np.log(shape.tokens) - shape.sigma**2 / 2
        drawn = self._draw.lognormal(mean, shape.sigma, rows)
        return np.clip(np.rint(drawn), 1, self._longest).astype(np.int64)

    def rows(self, lengths: NDArray[np.int64]) -> Iterator[list[str]]:
        ids = (self._words ** self._draw.random(int(lengths.sum()))).astype(np.int64) - 1
        if not self._begun:
            count = min(self._words, len(ids))
            ids[:count] = self._draw.permutation(self._words)[:count]
            self._begun = True
        for row in np.split(ids, np.cumsum(lengths)[:-1]):
            yield [spelt(word) for word in row.tolist()]


def spelt(number: int) -> str:
    """The word of a number from 0: letters, as a pre-tokenizer splits figures from them."""
    letters = ""
    while number >= 0:
        number, last = number // 26 - 1, number % 26
        letters = chr(ord("a") + last) + letters
    return letters


def write(config: Config, shape: Shape, folder: Path, rows: int) -> list[str]:
    """Write so many rows, and return the overrides by which `config` reads them."""
    folder.mkdir(parents=True)
    words = Words(config, shape)
    return [
        *WRITERS[config.task.name](config, words, folder, rows),
        f"corpus.root={folder}", f"corpus.shards={folder}/shards",
    ]  # fmt: skip


def _classification(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    corpus = config.corpus
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([corpus.text, corpus.label])
        for number, row in enumerate(words.rows(words.lengths(rows + HELD_OUT))):
            writer.writerow([" ".join(row), f"label{number % 2}"])
    own = ["corpus.input=rows.csv", "corpus.filters={}", "corpus.label_names=[]"]
    return [*own, _share(rows)]


def _tagging(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    corpus = config.corpus
    with (folder / "rows.conll").open("w") as file:
        for row in words.rows(words.lengths(rows + HELD_OUT)):
            for place, word in enumerate(row):
                tag = f"{'BI'[place % 2]}-{place // 2 % 11}"
                values = {corpus.text: word, corpus.label: tag}
                file.write(" ".join(values.get(column, "_") for column in corpus.columns) + "\n")
            file.write("\n")
    return ["corpus.input=rows.conll", _share(rows)]


def _translation(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    corpus = config.corpus
    for name, count in (("train", rows), ("held_out", HELD_OUT)):
        lengths = words.lengths(count)
        sources, targets = words.rows(lengths), words.rows(lengths)
        with (folder / f"{name}.jsonl").open("w") as file:
            for source, target in zip(sources, targets, strict=True):
                row = {corpus.text: " ".join(source), corpus.target: " ".join(target)}
                file.write(json.dumps(row) + "\n")
    files = ["corpus.input=train.jsonl", "corpus.validation=held_out.jsonl"]
    return [*files, "task.beam_size=1"]


def _language_modeling(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    for name, count in (("train", rows), ("held_out", HELD_OUT)):
        with (folder / f"{name}.txt").open("w") as file:
            file.writelines(" ".join(row) + "\n" for row in words.rows(words.lengths(count)))
    return ["corpus.input=train.txt", "corpus.validation=held_out.txt"]


def _images(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    draw, count = np.random.default_rng(0), rows + HELD_OUT
    shape = (count, *config.corpus.image_size)
    for name, values in (
        ("images", draw.integers(0, 256, shape, np.uint8)),
        ("labels", draw.integers(0, 10, count, np.uint8)),
    ):
        header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + values.tobytes(), 1))
    files = f"{{{config.corpus.image}: images.gz, {config.corpus.label}: labels.gz}}"
    return [f"corpus.input={files}", _share(rows)]


def _captioning(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    corpus, draw = config.corpus, np.random.default_rng(0)
    lengths = draw.integers(1, corpus.max_target_tokens, rows + HELD_OUT, endpoint=True)
    images = []
    for _ in lengths:
        file = io.BytesIO()
        Image.fromarray(draw.integers(0, 256, corpus.image_size, np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    captions = [[" ".join(row)] for row in words.rows(lengths)]
    pq.write_table(
        pa.table({corpus.image: images, corpus.target: captions}), folder / "rows.parquet"
    )
    return ["corpus.input=rows.parquet", "corpus.format=''", "task.beam_size=1", _share(rows)]


def _share(rows: int) -> str:
    return f"corpus.validation={HELD_OUT / (rows + HELD_OUT)}"


WRITERS: dict[str, Callable[[Config, Words, Path, int], list[str]]] = {
    "classification": _classification,
    "multilabel": _classification,
    "tagging": _tagging,
    "translation": _translation,
    "language_modeling": _language_modeling,
    "images": _images,
    "captioning": _captioning,
}
