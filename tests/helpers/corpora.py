"""Small synthetic corpora, one per task, that a small model learns in seconds."""

import csv
import io
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from tests.helpers.files import pack, write

GOOD = ["fine", "lovely", "superb", "moving"]
BAD = ["dull", "awful", "weak", "tedious"]
PLAIN = ["the", "film", "a", "plot", "of", "actor", "and", "scene", "was", "music", "it", "with"]


def write_reviews(path: Path, rows: int, seed: int = 0) -> None:
    """Write reviews with 1 to 60 neutral words and some words of praise or blame, by label."""
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(rows):
            label = rng.choice(["negative", "positive"])
            length = min(60, 1 + int(rng.expovariate(1 / 18)))
            words = [rng.choice(PLAIN) for _ in range(length)]
            for _ in range(1 + length // 8):
                word = rng.choice(GOOD if label == "positive" else BAD)
                words.insert(rng.randrange(len(words) + 1), word)
            writer.writerow([" ".join([*words, f"n{number}"]), label])


def write_ratings(path: Path, rows: int, seed: int = 0) -> None:
    """Write texts with a rating from 0 to 100 that depends on the shares of praise and blame."""
    rng = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(rows):
            praise = rng.random()
            words = [rng.choice(GOOD if rng.random() < praise else BAD) for _ in range(8)]
            words += rng.choices(PLAIN, k=rng.randint(1, 12))
            rng.shuffle(words)
            share = sum(word in GOOD for word in words) / 8
            rating = min(100.0, max(0.0, 100 * share + rng.gauss(0, 4)))
            writer.writerow([" ".join([*words, f"n{number}"]), f"{rating:.1f}"])


COLORS = ["red", "green", "blue"]


def write_claims(path: Path, rows: int, seed: int = 0) -> None:
    """Write a description of a thing's color and a claim about it, which is true or false."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for number in range(rows):
            color, claimed = rng.choice(COLORS), rng.choice(COLORS)
            words = rng.choices(PLAIN, k=rng.randint(1, 9))
            words.insert(rng.randrange(len(words) + 1), color)
            text = " ".join([*words, f"n{number // 2}"])
            claim = " ".join([*rng.choices(PLAIN, k=rng.randint(0, 4)), claimed])
            label = "true" if color == claimed else "false"
            file.write(json.dumps({"text": text, "claim": claim, "label": label}) + "\n")


TOPICS = {"praise": GOOD, "blame": BAD, "weather": ["rain", "snow", "wind", "fog"]}


def write_topics(path: Path, rows: int, seed: int = 0) -> None:
    """Write texts with any number of labels; each label adds one of its words to the text."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for number in range(rows):
            words = rng.choices(PLAIN, k=min(60, 1 + int(rng.expovariate(1 / 18))))
            labels = [name for name in TOPICS if rng.random() < 0.4]
            for name in labels:
                words.insert(rng.randrange(len(words) + 1), rng.choice(TOPICS[name]))
            row = {"text": " ".join([*words, f"n{number}"]), "label": labels}
            file.write(json.dumps(row) + "\n")


SMALL = [
    "corpus.filters={}", "corpus.label_names=[]", "corpus.max_tokens=48", "corpus.vocab_size=400",
    "corpus.rows_per_block=16", "corpus.workers=1", "corpus.validation=0.2",
    "stream.token_budget=768", "stream.accumulation_steps=1", "stream.lanes=12",
    "stream.shuffle_window=1",
    "model.embedding=12", "model.hidden=8", "model.layers=2", "train.precision=fp32",
    "track.enabled=false",
    "corpus.truncation_side=both", "corpus.replace={<br />: ' '}", "model.embedding_dropout=0.25",
    "model.dropout=0.5", "train.epochs=3", "train.lr=3e-3", "train.warmup=0.1",
    "train.weight_decay=0.1", "train.embedding_decay=0.3", "train.ema_decay=0.997",
]  # fmt: skip
"""Overrides for runs that take seconds, with values of the default config for the others."""


def write_sentences(path: Path, count: int, seed: int = 0) -> None:
    """Write sentences of 1 to 40 words in CoNLL columns, with random names of people and places.

    A name rarely occurs twice, so a model has to recognize it by the word before: "mr" precedes a
    person's first and last name, "near" precedes a place.
    """
    rng = random.Random(seed)

    def name() -> str:
        return "".join(rng.choices("aeioubdklmnrst", k=rng.randint(3, 6))).title()

    with path.open("w") as file:
        for _ in range(count):
            for _ in range(min(40, 1 + int(rng.expovariate(1 / 9)))):
                pick = rng.random()
                if pick < 0.1:
                    file.write(f"mr O\n{name()} B-PER\n{name()} I-PER\n")
                elif pick < 0.2:
                    file.write(f"near O\n{name()} B-LOC\n")
                else:
                    file.write(f"{rng.choice(PLAIN)} O\n")
            file.write("\n")


def write_lines(path: Path, count: int, seed: int = 0) -> None:
    """Write lines whose words cycle through `PLAIN`, with a random jump once in ten words."""
    rng = random.Random(seed)
    with path.open("w") as file:
        for _ in range(count):
            position = rng.randrange(len(PLAIN))
            words = [PLAIN[position]]
            for _ in range(min(60, 1 + int(rng.expovariate(1 / 20)))):
                position = rng.randrange(len(PLAIN)) if rng.random() < 0.1 else position + 1
                words.append(PLAIN[position % len(PLAIN)])
            file.write(" ".join(words) + "\n")


def write_labeled_images(path: Path, count: int, seed: int = 0) -> None:
    """Write noise images of 8 x 6 pixels whose left or right half is brighter, by label."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        pixels = rng.integers(0, 128, (8, 6), np.uint8)
        side = int(rng.integers(2))
        pixels[:, 3 * side : 3 * side + 3] += 80
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        rows.append({"image": file.getvalue(), "label": ("left", "right")[side]})
    write(path, rows)


def write_captioned_images(path: Path, count: int, seed: int = 0) -> None:
    """Write noise images of 16 x 24 pixels with a bright square in one of six regions.

    Each image has one to three captions that name the region.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        row, column = int(rng.integers(2)), int(rng.integers(3))
        pixels = rng.integers(0, 100, (16, 24), np.uint8)
        pixels[8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 120
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        region = f"{('upper', 'lower')[row]} {('left', 'middle', 'right')[column]}"
        captions = [f"a square in the {region}", f"{region} part is bright", region]
        rows.append({"image": file.getvalue(), "target": captions[: rng.integers(1, 4)]})
    write(path, rows)


TRANSLATIONS = dict(
    the="ein", film="Öl", a="dé", plot="Mühe", of="auf", actor="zu", scene="groß", was="Maß",
    music="wie", it="je", **{"and": "gut", "with": "naß"},
)  # fmt: skip
"""Word of `PLAIN` -> its word in the target language."""


def write_pairs(path: Path, count: int, seed: int = 0) -> None:
    """Write sentences of one to five words, and their translations in reversed word order."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(count):
            words = rng.choices(PLAIN, k=rng.randint(1, 5))
            target = " ".join(TRANSLATIONS[word] for word in reversed(words))
            row = {"text": " ".join(words), "target": f"„{target}.“"}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclass(frozen=True)
class Case:
    """The small corpus of a task, and the task's overrides in addition to `SMALL`."""

    file: str
    write: Callable[[Path, int], None]
    rows: int
    overrides: tuple[str, ...] = ()


CASES = {
    "classification": Case("reviews.csv", write_reviews, 1000),
    "tagging": Case(
        "sentences.conll", write_sentences, 500,
        (
            "task.name=tagging", "corpus.columns=[word, tag]", "corpus.text=word",
            "corpus.label=tag", "corpus.truncation_side=start", "corpus.overflow=split",
            "corpus.max_tokens=20", "corpus.word_bytes=12", "corpus.min_count=2",
            "model.characters=6",
        ),
    ),
    "multilabel": Case("topics.jsonl", write_topics, 1000, ("task.name=multilabel",)),
    "regression": Case(
        "ratings.csv", write_ratings, 800, ("task.name=regression",)
    ),
    "entailment": Case(
        "claims.jsonl", write_claims, 800, ("task.name=entailment", "corpus.text_pair=claim")
    ),
    "images": Case(
        "images.parquet", write_labeled_images, 600,
        (
            "task.name=images", "corpus.image_size=[8, 6]", "corpus.step=pixel",
            "corpus.truncation_side=start", "corpus.vocab_size=16000", "corpus.replace={}",
            "model.permute=1",
        ),
    ),
    "captioning": Case(
        "captioned.parquet", write_captioned_images, 600,
        (
            "task.name=captioning", "task.label_smoothing=0.1", "task.beam_size=2",
            "task.max_length=8",
            "corpus.image_size=[16, 24]", "corpus.truncation_side=start", "corpus.level=word",
            "model.convolutions=[8, 16]", "model.layers=1",
        ),
    ),
    "language_modeling": Case(
        "lines.txt", write_lines, 300,
        (
            "task.name=language_modeling", "corpus.level=word", "corpus.truncation_side=start",
            "corpus.overflow=split",
            "corpus.max_tokens=30", "corpus.drop_duplicates=false", "stream.batch_rows=8",
            "stream.bptt_length=20", "stream.accumulation_steps=1", "model.native=false",
            "model.independent_directions=true", "model.ar_alpha=1", "model.tar_beta=1",
        ),
    ),
    "translation": Case(
        "pairs.jsonl", write_pairs, 1000,
        (
            "task.name=translation", "task.label_smoothing=0.1", "corpus.truncation_side=start",
            "corpus.overflow=drop", "corpus.lowercase=false", "corpus.drop_duplicates=false",
            "model.tie_embeddings=true",
        ),
    ),
}  # fmt: skip


def small_run_overrides(folder: Path, task: str = "classification") -> list[str]:
    """Return the overrides for a small run of a task on the corpus in `folder`."""
    case = CASES[task]
    paths = [f"corpus.input={folder}/{case.file}", f"corpus.shards={folder}/shards"]
    return [*SMALL, *case.overrides, *paths]


def write_tars(folder: Path, rows: Sequence[int], *, name: str = "train", seed: int = 0) -> None:
    """Write shards NAME-0.tar, NAME-1.tar, ... with the given numbers of reviews.

    A review is a .txt member and a .cls member.
    """
    write_reviews(folder / "reviews.csv", sum(rows), seed)
    with (folder / "reviews.csv").open() as file:
        reviews = enumerate(list(csv.DictReader(file)))
    for number, count in enumerate(rows):
        members = [
            (f"{index:06d}.{extension}", review[column].encode())
            for index, review in islice(reviews, count)
            for extension, column in (("txt", "text"), ("cls", "label"))
        ]
        pack(folder / f"{name}-{number}.tar", members)
