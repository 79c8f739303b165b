"""The benchmark of defaults by the size of the corpus."""

import csv
import random
from pathlib import Path

import pytest

from benchmarks import small_corpora
from benchmarks.small_corpora import DECLARED, QUEUES, table_rows, tickets, write


@pytest.mark.parametrize("corpus, labels", [("tickets", set(QUEUES)), ("ratings", None)])
def test_made_corpora_are_the_same_each_time(
    corpus: str, labels: set[str] | None, tmp_path: Path
) -> None:
    overrides = write(corpus, tmp_path / "a", 40)
    assert overrides[0] == f"corpus.input={tmp_path}/a/train.csv"
    write(corpus, tmp_path / "b", 40)
    first, second = ((tmp_path / name / "train.csv").read_text() for name in "ab")
    assert first == second
    rows = list(csv.DictReader(first.splitlines()))
    assert len(rows) == 40
    if labels:
        assert {row["label"] for row in rows} == labels
    else:
        assert all(0 <= float(row["label"]) <= 100 for row in rows)


def test_most_words_of_queues_are_those_of_the_label() -> None:
    draw = random.Random(0)
    right = wrong = 0
    for _ in range(500):
        text, label = tickets(draw)
        for queue, words in QUEUES.items():
            found = sum(word in words.split() for word in text.split())
            right, wrong = right + found * (queue == label), wrong + found * (queue != label)
    assert 0.8 < right / (right + wrong) < 0.95


def test_each_corpus_is_trained_with_both_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []

    def run(overrides: list[str], folder: Path) -> dict[str, object]:
        runs.append((overrides[2:], folder.name))
        return {"step": 1000, "metric": "accuracy", "best": 0.5, "seconds": 1.6}

    monkeypatch.setattr(small_corpora, "run", run)
    lines = list(table_rows(["tickets"], [40], tmp_path))
    assert runs == [(DECLARED, "declared"), ([], "by-size")]
    assert lines[2:] == [
        "| tickets | 40 | declared | 1,000 | accuracy 0.500 | 2 |",
        "| tickets | 40 | by size | 1,000 | accuracy 0.500 | 2 |",
    ]
