"""A tagger from a file of sentences to predictions, and the errors on this path."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from seqeval.metrics import f1_score
from tokenizers import Tokenizer

from pipeline import config
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from pipeline.inference.evaluator import evaluate_files
from pipeline.inference.model import Model, load
from pipeline.models.tagger import Tagger
from pipeline.training import session
from tests.helpers.corpora import PLAIN, small_run_overrides, write_sentences
from tests.helpers.files import read
from tests.helpers.processes import call, losses

NAMES = ["word", "tag"]


@pytest.fixture(scope="module")
def settings(corpora: Callable[[str], Path]) -> list[str]:
    return small_run_overrides(corpora("tagging"), "tagging")


@pytest.fixture(scope="module")
def trained(settings: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    train(
        settings, f"run.dir={folder}", "train.epochs=8", "train.lr=3e-2", "train.warmup=0.1",
        "model.characters=12", "model.hidden=16",
    )  # fmt: skip
    return folder


def train(settings: list[str], *overrides: str) -> None:
    """Train in this process, which is faster than starting another one."""
    session.train(config.load(None, [*settings, *overrides]))


def predictor(folder: Path) -> Model:
    return load(folder)


@pytest.fixture
def sentences(tmp_path: Path) -> tuple[Path, list[list[str]], list[list[str]]]:
    """A file of new sentences, some longer than a row may be, with their words and their tags."""
    path = tmp_path / "new.conll"
    write_sentences(path, 60, seed=5)
    rows = [row.values or {} for row in read(path, NAMES, NAMES)]
    assert max(len(row["word"]) for row in rows) > 20
    return path, [row["word"] for row in rows], [row["tag"] for row in rows]


def test_model_learns_the_corpus(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["metric"] == "f1"
    assert summary["best"] > 0.9


@pytest.mark.slow
def test_evaluation_agrees_with_predictions(
    trained: Path, sentences: tuple[Path, list[list[str]], list[list[str]]]
) -> None:
    path, words, tags = sentences
    status, out, err = call("evaluate", "--run", str(trained), "--input", str(path))
    assert status == 0, err
    result = json.loads(out)
    assert (result["examples"], result["skipped"]) == (60, 0)

    text = "\n".join(map(" ".join, words))
    status, out, err = call("predict", "--run", str(trained), text=text)
    assert status == 0, err
    found = [json.loads(line)["spans"] for line in out.splitlines()]
    guesses = []
    for spans, sentence in zip(found, words, strict=True):
        guess = ["O"] * len(sentence)
        for span in spans:
            start, stop, label = span["start"], span["stop"], span["label"]
            assert span["text"] == " ".join(sentence[start:stop])
            guess[start:stop] = [f"B-{label}"] + [f"I-{label}"] * (stop - start - 1)
        guesses.append(guess)
    assert result["f1"] == pytest.approx(f1_score([list(row) for row in tags], guesses))


def test_lines_without_words_are_errors(trained: Path) -> None:
    text = "the film of mr Bodalu Kemirina\n\n \t\nthe\0plot\nit\n"
    status, out, err = call("predict", "--run", str(trained), text=text)
    assert status == 0, err
    first, *rest = map(json.loads, out.splitlines())
    assert first == {"spans": [{"label": "PER", "text": "Bodalu Kemirina", "start": 4, "stop": 6}]}
    empty = {"error": "the text is empty"}
    assert rest == [empty, empty, {"error": "the text has a NUL character"}, {"spans": []}]


def test_unknown_tag_is_one_error_line_that_names_its_row(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "new.conll"
    path.write_text("the O\n\nBodalu B-PER\nKemi B-PAR\n")
    refuse = "--unknown-labels=refuse"
    status, out, err = call("evaluate", "--run", str(trained), "--input", str(path), refuse)
    assert (status, out) == (2, "")
    (line,) = err.splitlines()
    assert line.startswith(
        f"error: {path}, line 3: label 'B-PAR' is not in corpus.label_names (B-LOC, "
    )


@pytest.mark.parametrize(
    "content, message",
    [
        ("the film O\n", "has no sentence in which all lines have 2 fields"),
        ("Bodalu E-PER\n", "no row is left to evaluate"),
    ],
)
def test_error_if_no_sentence_is_usable(
    content: str, message: str, trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.conll"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        evaluate_files(predictor(trained).trained, str(path))


def test_sentences_with_invalid_bio_tags_are_skipped_and_counted(
    trained: Path, tmp_path: Path
) -> None:
    path = tmp_path / "new.conll"
    path.write_text("the O\n\nin O\nBodalu B-PER\n\nBodalu I-PER\n")
    metrics, skips = evaluate_files(predictor(trained).trained, str(path))
    assert (metrics["examples"], skips) == (2, {SkipReason.NOT_BIO: 1})


def test_evaluation_converts_tags_of_another_scheme(trained: Path, tmp_path: Path) -> None:
    bio = [["O", "B-PER", "I-PER", "O"], ["B-PER", "B-PER"], ["O", "B-PER", "I-PER", "I-PER"]]
    schemes = {
        "bio": bio,
        "iob1": [
            ["O", "I-PER", "I-PER", "O"],
            ["I-PER", "B-PER"],
            ["O", "I-PER", "I-PER", "I-PER"],
        ],
        "bilou": [["O", "B-PER", "L-PER", "O"], ["U-PER"] * 2, ["O", "B-PER", "I-PER", "L-PER"]],
    }
    run = predictor(trained)
    found = {}
    for scheme, rows in schemes.items():
        path = tmp_path / f"{scheme}.conll"
        path.write_text("\n".join("".join(f"Bodalu {t}\n" for t in row) for row in rows))
        found[scheme] = evaluate_files(run.trained, str(path))
    assert found["bio"][0]["examples"] == 3
    assert found["iob1"] == found["bio"] == found["bilou"]


@pytest.mark.parametrize("truncation_side", ["start", "end"])
def test_all_words_are_tagged_by_a_model_trained_on_truncated_sentences(
    truncation_side: str, settings: list[str], tmp_path: Path
) -> None:
    """Positions count from the start of the sentence, whichever part training would keep."""
    changes = [
        "corpus.overflow=truncate",
        f"corpus.truncation_side={truncation_side}",
        f"corpus.shards={tmp_path}/s",
    ]
    train(settings, *changes, "train.max_steps=1", f"run.dir={tmp_path}/run")
    run = predictor(tmp_path / "run")
    assert run.trained.manifest.names["tags"][0] == "B-LOC"
    assert isinstance(run.module, Tagger)
    with torch.no_grad():  # tag each word as an entity, B-LOC
        run.module.get_parameter("scores.bias")[0] += 99
    words = [f"word{number}" for number in range(50)]
    (found,) = run.predict([" ".join(words)])
    assert [span["text"] for span in found["spans"]] == words
    assert [span["start"] for span in found["spans"]] == list(range(50))


def test_bf16_losses_are_close_to_those_of_fp32(settings: list[str], tmp_path: Path) -> None:
    overrides = ["train.max_steps=8", "train.log_every=1", "train.lr=1e-2"]
    for precision in ("fp32", "bf16"):
        train(
            settings, *overrides, f"train.precision={precision}", f"run.dir={tmp_path}/{precision}"
        )
    full, half = (np.array(list(losses(tmp_path / p).values())) for p in ("fp32", "bf16"))
    assert len(full) == 8
    assert 0 < abs(half / full - 1).max() < 0.02


def test_run_starts_from_word_vectors(
    settings: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """They are scaled by one factor to the other embeddings; a resumed run needs no file."""
    caplog.set_level("INFO", logger="pipeline")
    rng = random.Random(0)
    vectors = {word: [rng.gauss(3, 5) for _ in range(12)] for word in PLAIN[:8]}
    path = tmp_path / "vectors.txt"
    path.write_text(
        "".join(f"{word.title()} {' '.join(map(str, vectors[word]))}\n" for word in vectors)
    )
    overrides = [f"model.word_vectors={path}", "train.lr=1e-20", f"run.dir={tmp_path}/run"]
    train(settings, *overrides, "train.max_steps=1")
    tokenizer = Tokenizer.from_file(str(tmp_path / "run" / "dataset" / "tokenizer.json"))
    words = tokenizer.get_vocab_size() - 4
    line = f"8 of {words} words are initialized with a vector of {path}"
    assert line in caplog.messages
    weights = tmp_path / "run" / "checkpoints" / "latest" / "model.safetensors"
    weight = load_file(weights)["embedding.weight"]
    ids = [tokenizer.token_to_id(word) for word in vectors]
    ratio = weight[ids] / torch.tensor(list(vectors.values()))
    assert ratio.std() < 1e-6
    assert weight[ids].square().mean().sqrt() == pytest.approx(0.1, rel=0.1)
    others = weight[[n for n in range(len(weight)) if n not in ids]]
    assert others.std() == pytest.approx(0.1, rel=0.2)

    path.unlink()
    train(settings, *overrides, "train.max_steps=2")
    assert torch.equal(load_file(weights)["embedding.weight"], weight)


def test_word_vectors_of_another_width_are_one_error_line(
    settings: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_text("the 1 2 3\n")
    with pytest.raises(InputError, match=r"has 3 values .*; set model\.embedding=3"):
        train(settings, f"model.word_vectors={path}", f"run.dir={tmp_path}/run")
