"""Synthetic raw files that imitate a config's corpus, for machines that do not have the real one.

The number of words per row is log-normal with the mean number of tokens of the real corpus, cut at
the config's maximum. There are as many distinct words as the config's vocabulary has tokens, and
the k-th most frequent word occurs with a frequency proportional to 1 / k. Almost every word becomes
one token, with subword tokenizers too, and together the words fill the vocabulary. Images are
noise. The content is random, so only speed can be measured on these files.
"""

import csv
import gzip
import io
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import Config

HELD_OUT = 64
"""Number of validation rows; benchmarks do not measure them."""


@dataclass(frozen=True)
class Shape:
    """Length and vocabulary statistics of a corpus."""

    tokens: float
    """Mean number of tokens per row."""
    sigma: float
    """Standard deviation of the logarithm of that number."""
    words: int = 0
    """Number of distinct words; 0: the config's vocabulary size."""


class Words:
    """Random rows of the words a, b, ..., z, aa, ab, ...; the first rows contain every word."""

    def __init__(self, config: Config, shape: Shape) -> None:
        self._shape, self._max_length = shape, config.corpus.max_tokens
        self._vocab_size = shape.words or _corpus(config).vocab_size
        self._rng = np.random.default_rng(0)
        self._all_words_used = False

    def lengths(self, rows: int) -> NDArray[np.int64]:
        """Draw the number of words of n rows."""
        shape = self._shape
        mean = np.log(shape.tokens) - shape.sigma**2 / 2
        lengths = self._rng.lognormal(mean, shape.sigma, rows)
        return np.clip(np.rint(lengths), 1, self._max_length).astype(np.int64)

    def rows(self, lengths: NDArray[np.int64]) -> Iterator[list[str]]:
        """Yield rows with the given numbers of words."""
        ids = (self._vocab_size ** self._rng.random(int(lengths.sum()))).astype(np.int64) - 1
        if not self._all_words_used:
            count = min(self._vocab_size, len(ids))
            ids[:count] = self._rng.permutation(self._vocab_size)[:count]
            self._all_words_used = True
        for row in np.split(ids, np.cumsum(lengths)[:-1]):
            yield [spell(word) for word in row.tolist()]


def spell(number: int) -> str:
    """Return the word with a number: a for 0, b for 1, ..., aa for 26.

    Words consist of letters only, because a pre-tokenizer would split digits from letters.
    """
    letters = ""
    while number >= 0:
        number, last = number // 26 - 1, number % 26
        letters = chr(ord("a") + last) + letters
    return letters


def write(config: Config, shape: Shape, folder: Path, rows: int) -> list[str]:
    """Write a corpus of n training rows; return the overrides with which `config` reads it."""
    folder.mkdir(parents=True)
    words = Words(config, shape)
    return [
        *WRITERS[config.task.name](config, words, folder, rows),
        f"corpus.root={folder}", f"corpus.shards={folder}/shards",
    ]  # fmt: skip


def _classification(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    corpus = _corpus(config)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([corpus.text, corpus.label])
        for number, row in enumerate(words.rows(words.lengths(rows + HELD_OUT))):
            writer.writerow([" ".join(row), f"label{number % 2}"])
    overrides = ["corpus.input=rows.csv", "corpus.filters={}", "corpus.label_names=[]"]
    return [*overrides, _validation_share(rows)]


def _tagging(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    corpus = _corpus(config)
    with (folder / "rows.conll").open("w") as file:
        for row in words.rows(words.lengths(rows + HELD_OUT)):
            for position, word in enumerate(row):
                tag = f"{'BI'[position % 2]}-{position // 2 % 11}"
                values = {corpus.text: word, corpus.label: tag}
                cells = (values.get(column, "_") for column in corpus.columns)
                file.write(" ".join(cells) + "\n")
            file.write("\n")
    return ["corpus.input=rows.conll", _validation_share(rows)]


def _translation(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    corpus = _corpus(config)
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
    rng, count = np.random.default_rng(0), rows + HELD_OUT
    corpus = _corpus(config)
    shape = (count, *corpus.image_size)
    for name, values in (
        ("images", rng.integers(0, 256, shape, np.uint8)),
        ("labels", rng.integers(0, 10, count, np.uint8)),
    ):
        header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
        (folder / f"{name}.gz").write_bytes(gzip.compress(header + values.tobytes(), 1))
    files = f"{{{corpus.image}: images.gz, {corpus.label}: labels.gz}}"
    return [f"corpus.input={files}", _validation_share(rows)]


def _captioning(config: Config, words: Words, folder: Path, rows: int) -> list[str]:
    rng = np.random.default_rng(0)
    corpus = _corpus(config)
    lengths = rng.integers(1, corpus.max_target_tokens, rows + HELD_OUT, endpoint=True)
    images = []
    for _ in lengths:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, corpus.image_size, np.uint8)).save(file, "PNG")
        images.append(file.getvalue())
    captions = [[" ".join(row)] for row in words.rows(lengths)]
    pq.write_table(
        pa.table({corpus.image: images, corpus.target: captions}), folder / "rows.parquet"
    )
    overrides = ["corpus.input=rows.parquet", "corpus.format=''", "task.beam_size=1"]
    return [*overrides, _validation_share(rows)]


def _corpus(config: Config) -> Any:
    """Return the section `corpus`, which has the keys of the task's fields."""
    return config.corpus


def _validation_share(rows: int) -> str:
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
