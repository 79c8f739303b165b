"""A small corpus that can be learnt, prepared once a session."""

import csv
import os
import random
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

from pipeline import config
from pipeline.corpus.dataset import Manifest
from pipeline.corpus.prepare import prepare
from pipeline.tasks.classification import Classification
from tests.corpus.conftest import pack

GOOD = ["fine", "lovely", "superb", "moving"]
BAD = ["dull", "awful", "weak", "tedious"]
PLAIN = ["the", "film", "a", "plot", "of", "actor", "and", "scene", "was", "music", "it", "with"]


def write_reviews(path: Path, rows: int, seed: int = 0) -> None:
    """Reviews of 1 to 60 words, their label by the words of praise or blame in them."""
    draw = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(rows):
            label = draw.choice(["negative", "positive"])
            length = min(60, 1 + int(draw.expovariate(1 / 18)))
            words = [draw.choice(PLAIN) for _ in range(length)]
            for _ in range(1 + length // 8):
                word = draw.choice(GOOD if label == "positive" else BAD)
                words.insert(draw.randrange(len(words) + 1), word)
            writer.writerow([" ".join([*words, f"n{number}"]), label])


SMALL = [
    "corpus.where={}", "corpus.label_names=[]", "corpus.max_tokens=48", "corpus.vocab_size=400",
    "corpus.rows_per_block=16", "corpus.workers=1", "corpus.validation=0.2",
    "stream.token_budget=768", "stream.micro_batches=1", "stream.lanes=12", "stream.window=1",
    "model.embedding=12", "model.hidden=8", "model.layers=2", "train.precision=fp32",
    "track.enabled=false",
]  # fmt: skip
"""Overrides of the default config that make a run of seconds."""


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with reviews.csv and its shards, 800 rows of them in training."""
    folder = tmp_path_factory.mktemp("corpus")
    write_reviews(folder / "reviews.csv", 1000)
    settings = config.load(None, small(folder)).corpus
    prepare(settings, Classification.fields(settings), lambda line: None)
    return folder


@pytest.fixture(scope="session")
def manifest(corpus: Path) -> Manifest:
    from pipeline.corpus.dataset import open_dataset

    return open_dataset(corpus / "shards")


def write_tars(folder: Path, rows: Sequence[int], *, name: str = "train", seed: int = 0) -> None:
    """Shards NAME-0.tar, NAME-1.tar, ... of so many reviews each, as .txt and .cls members."""
    write_reviews(folder / "reviews.csv", sum(rows), seed)
    with (folder / "reviews.csv").open() as file:
        reviews = enumerate(list(csv.DictReader(file)))
    for number, count in enumerate(rows):
        members = [
            (f"{place:06d}.{extension}", review[column].encode())
            for place, review in islice(reviews, count)
            for extension, column in (("txt", "text"), ("cls", "label"))
        ]
        pack(folder / f"{name}-{number}.tar", members)


def small(folder: Path) -> list[str]:
    """The overrides of a small run on the corpus in `folder`."""
    return [*SMALL, f"corpus.input={folder}/reviews.csv", f"corpus.shards={folder}/shards"]
