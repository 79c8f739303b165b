"""Values chosen by the size of the corpus: stored, printed, and kept by a run that resumes."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from pipeline import config
from pipeline.run.folder import RunFolder
from pipeline.training.chosen_values import choose
from tests.helpers.processes import call, metrics, weights

MANIFEST: Any = SimpleNamespace(splits={"train": SimpleNamespace(tokens=5_747, rows=273)})
BY_SIZE = {"stream.token_budget": 512, "train.epochs": 50, "train.lr": 3e-3}
STORED = {"stream": {"token_budget": 16384}, "train": {"epochs": 1, "lr": 1e-3}}


def run_folder(path: Path, text: str, *, with_checkpoint: bool) -> RunFolder:
    folder = RunFolder(path)
    folder.checkpoints.mkdir(parents=True)
    if with_checkpoint:
        (folder.checkpoints / "step-00000007").mkdir()
    folder.config.write_text(text)
    return folder


@pytest.mark.parametrize("with_checkpoint", [False, True])
def test_a_run_that_resumes_keeps_the_values_that_it_began_with(
    with_checkpoint: bool, tmp_path: Path
) -> None:
    """Also those of an earlier version, which had other defaults."""
    folder = run_folder(tmp_path, yaml.safe_dump(STORED), with_checkpoint=with_checkpoint)
    settings = config.load(None, ["corpus.input=a.csv"])
    expected = {"stream.token_budget": 16384, "train.epochs": 1, "train.lr": 1e-3}
    found = choose(settings, MANIFEST, folder, "auto")
    assert found == (expected if with_checkpoint else BY_SIZE)
    settings = config.load(None, ["corpus.input=a.csv", "train.lr=0.1"])
    del expected["train.lr"]
    if with_checkpoint:
        assert choose(settings, MANIFEST, folder, "auto") == expected, "a key that is set stays"


def test_a_run_that_branches_off_keeps_the_values_of_the_other_run(tmp_path: Path) -> None:
    other = run_folder(tmp_path / "other", yaml.safe_dump(STORED), with_checkpoint=True)
    settings = config.load(None, ["corpus.input=a.csv"])
    resume = str(other.checkpoints / "step-00000007")
    found = choose(settings, MANIFEST, RunFolder(tmp_path / "new"), resume)
    assert found["stream.token_budget"] == 16384


@pytest.mark.parametrize("text", ["", "{", "train: 1", "train: {lr: 1}"])
def test_a_config_that_cannot_be_read_is_left_to_the_checks_of_the_run(
    text: str, tmp_path: Path
) -> None:
    folder = run_folder(tmp_path, text, with_checkpoint=True)
    settings = config.load(None, ["corpus.input=a.csv"])
    assert choose(settings, MANIFEST, folder, "auto") == BY_SIZE


def best_accuracy(run: Path) -> float:
    return max(line.get("val/accuracy", 0.0) for line in metrics(run))


@pytest.mark.slow
def test_a_small_csv_learns_without_overrides_and_resumes_exactly(tmp_path: Path) -> None:
    """300 rows of a small business, with the name of the queue's topic in each."""
    draw = random.Random(0)
    words = [
        "please",
        "help",
        "my",
        "the",
        "order",
        "again",
        "since",
        "yesterday",
        "with",
        "it",
        "was",
    ]
    topics = {"billing": "invoice", "shipping": "parcel", "technical": "login"}
    rows = []
    for number in range(300):
        queue = draw.choice(list(topics))
        text = [*draw.choices(words, k=8), topics[queue], str(number)]
        rows.append(f"{' '.join(draw.sample(text, len(text)))},{queue}")
    (tmp_path / "tickets.csv").write_text("\n".join(["body,queue", *rows]) + "\n")
    overrides = [
        f"corpus.input={tmp_path}/tickets.csv", "corpus.text=body", "corpus.label=queue",
        f"corpus.shards={tmp_path}/shards", "corpus.workers=1", "model.hidden=32",
        "model.embedding=32", "model.layers=1", "train.precision=fp32", "track.enabled=false",
    ]  # fmt: skip
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    status, out, err = call("train", *overrides, f"run.dir={whole}")
    assert status == 0, err
    assert best_accuracy(whole) > 0.8
    assert "baseline    accuracy 0." in out
    assert "defaults  stream.token_budget=512, train.epochs=50, train.lr=0.003: chosen for" in err
    saved = yaml.safe_load((whole / "config.yaml").read_text())
    assert (saved["stream"]["token_budget"], saved["train"]["epochs"]) == (512, 50)
    assert saved["train"]["lr"] == 0.003
    last = int(max(line["step"] for line in metrics(whole)))
    assert last > 250
    for steps in (f"train.max_steps={last // 2}", "train.max_steps=0"):
        status, _, err = call("train", *overrides, f"run.dir={stopped}", steps)
        assert status == 0, err
    assert f"step-{last // 2:08d}" in err
    assert weights(stopped) == weights(whole)
    status, _, err = call("train", *overrides, f"run.dir={whole}", "train.epochs=60")
    assert status == 0, err
    assert "train.epochs=60: the learning-rate schedule spanned 50 epoch(s) until now" in err
