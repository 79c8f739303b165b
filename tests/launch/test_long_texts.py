"""Runs whose corpus splits or drops long texts: training, evaluation and prediction agree."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.inference.model import load
from tests.helpers.corpora import small_run_overrides, write_reviews
from tests.helpers.processes import call, run

pytestmark = pytest.mark.slow

LONG = "the film was superb and the music lovely " * 9
TEXTS = ["a superb film", LONG, "", "dull " * 40, "the plot was awful"]


def train(corpus: Path, folder: Path, overflow: str, *overrides: str, nproc: int = 1) -> Path:
    """Train on the corpus with rows of at most 16 tokens; return the run's folder."""
    status, _, err = run(
        *small_run_overrides(corpus), "corpus.max_tokens=16", f"corpus.overflow={overflow}",
        "corpus.truncation_side=start", f"corpus.shards={folder}/shards",
        f"run.dir={folder}/run{nproc}", "train.lr=2e-2", "train.warmup=0.1", *overrides,
        nproc=nproc,
    )  # fmt: skip
    assert status == 0, err
    return folder / f"run{nproc}"


@pytest.fixture(scope="module")
def split(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that splits long texts into segments."""
    return train(corpus, tmp_path_factory.mktemp("split"), "split", "train.epochs=3")


@pytest.fixture(scope="module")
def dropping(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that drops long texts."""
    return train(corpus, tmp_path_factory.mktemp("drop"), "drop", "train.max_steps=2")


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """A file of 60 labeled reviews that no run has seen."""
    write_reviews(tmp_path / "reviews.csv", 60, seed=5)
    return tmp_path / "reviews.csv"


@pytest.mark.distributed
def test_validation_counts_each_document_once_with_any_number_of_ranks(
    corpus: Path, split: Path
) -> None:
    manifest = open_dataset(split.parent / "shards")
    rows = {name: part.rows for name, part in manifest.splits.items()}
    report = manifest.report
    assert sum(rows.values()) - report["segments"] + report["split"] == 1000
    one = validation(split)
    assert one["examples"] == open_dataset(corpus / "shards").splits["validation"].rows
    assert one["examples"] < rows["validation"]
    assert one["accuracy"] > 0.8

    again = split.parent / "run2"  # the same weights, evaluated by two ranks
    shutil.copytree(split, again, symlinks=True)
    (again / "summary.json").unlink()
    train(corpus, split.parent, "split", "train.epochs=3", nproc=2)
    two = validation(again)
    assert two["loss"] == pytest.approx(one["loss"], rel=1e-6)
    assert two | {"loss": 0} == one | {"loss": 0}


def validation(folder: Path) -> dict[str, float]:
    return dict(json.loads((folder / "summary.json").read_text())["validation"])


def test_a_split_text_has_one_prediction(split: Path) -> None:
    """It is the mean of the segments' probabilities, weighted by their numbers of tokens."""
    predictor = load(split)
    corpus = predictor.config.corpus
    encoder = TextEncoder(split / "dataset/tokenizer.json", corpus.max_tokens, overflow="split")
    found = predictor.predict(TEXTS)
    assert [list(prediction) for prediction in found] == [
        ["error"] if text == "" else ["label", "probability", "scores"] for text in TEXTS
    ]
    for text, prediction in zip(TEXTS, found, strict=True):
        (encoded,) = encoder.encode([text])
        expected = torch.zeros(2)
        for ids in encoded.rows:
            lengths, keys = torch.tensor([len(ids)]), torch.tensor([0])
            with torch.no_grad():
                scores = predictor.module(torch.tensor([ids.tolist()]), lengths, keys)
            expected += len(ids) * scores[0].softmax(-1)
        if text:
            expected /= sum(map(len, encoded.rows))
            assert list(prediction["scores"].values()) == pytest.approx(expected.tolist(), abs=1e-4)
    assert len(encoder.encode([LONG])[0].rows) > 3


def test_evaluation_counts_each_split_text_once(split: Path, reviews: Path) -> None:
    status, out, err = call("evaluate", "--run", str(split), "--input", str(reviews))
    assert status == 0, err
    result = json.loads(out)
    assert (result["examples"], result["skipped"]) == (60, 0)
    with reviews.open() as file:
        rows = list(csv.DictReader(file))
    texts = "".join(row["text"] + "\n" for row in rows)
    _, out, _ = call("predict", "--run", str(split), text=texts)
    guesses = [json.loads(line)["label"] for line in out.splitlines()]
    correct = sum(guess == row["label"] for guess, row in zip(guesses, rows, strict=True))
    assert result["accuracy"] == pytest.approx(correct / 60)


def test_dropped_texts_are_reported(dropping: Path, reviews: Path) -> None:
    status, out, err = call("predict", "--run", str(dropping), text="\n".join(TEXTS))
    assert status == 0, err
    found = [json.loads(line) for line in out.splitlines()]
    long = {"error": "the text has more than corpus.max_tokens tokens (corpus.overflow=drop)"}
    assert (found[1], found[3]) == (long, long)
    assert found[2] == {"error": "the text is empty"}
    assert found[0].keys() == found[4].keys() == {"label", "probability", "scores"}

    status, out, err = call("evaluate", "--run", str(dropping), "--input", str(reviews))
    assert status == 0, err
    result = json.loads(out)
    assert 0 < result["skipped"] < 60
    assert result["examples"] == 60 - result["skipped"]
    assert f"skipped {result['skipped']} row(s): more than corpus.max_tokens tokens" in err


def test_error_if_no_row_is_left_to_evaluate(dropping: Path, tmp_path: Path) -> None:
    (tmp_path / "long.csv").write_text(f"text,label\n{LONG},positive\n")
    path = str(tmp_path / "long.csv")
    status, _, err = call("evaluate", "--run", str(dropping), "--input", path)
    assert status == 2
    assert err.splitlines()[-1].startswith(f"error: --input {path}: no row is left to evaluate")
    assert "corpus.overflow=drop" in err
