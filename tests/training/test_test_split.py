"""The test split: evaluated once, at the end, with the best checkpoint."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline import config
from pipeline.training import session
from pipeline.training.trainer import Trainer
from tests.helpers.corpora import CASES, small_run_overrides
from tests.helpers.files import reviews, write
from tests.helpers.processes import call, run

TRAINING = ("train.epochs=4", "train.max_steps=8", "train.evaluate_every=2", "train.lr=0.02",
            "train.precision=fp32")  # fmt: skip


def overrides_for(folder: Path, task: str, *more: str) -> list[str]:
    case = CASES[task]
    if not (folder / case.file).exists():
        case.write(folder / case.file, case.rows)
    small = small_run_overrides(folder, task)
    return [*small, *TRAINING, f"run.dir={folder}/run", *more]


def train(overrides: list[str]) -> None:
    session.train(config.load(None, overrides))


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text())
    return found


def test_the_best_checkpoint_is_tested_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The metrics are those of `headrace evaluate` on the test file."""
    write(tmp_path / "test.csv", reviews(150, seed=9))
    test_file = f"corpus.test={tmp_path}/test.csv"
    overrides = overrides_for(tmp_path, "classification", test_file)
    train(overrides)
    first = summary(tmp_path)
    assert first["test_step"] == first["best_step"] > 0
    assert first["test"]["examples"] == 150
    low, high = first["intervals"]["accuracy"]
    assert low < first["test"]["accuracy"] < high
    run_folder = str(tmp_path / "run")
    given = ("--run", run_folder, "--input", f"{tmp_path}/test.csv", "task.calibrate=none")
    status, out, err = call("evaluate", *given)
    assert status == 0, err
    for name, value in json.loads(out).items():
        if name in first["test"]:
            assert first["test"][name] == pytest.approx(value, abs=1e-6), name
    printed = capsys.readouterr().out
    assert f"test        accuracy {first['test']['accuracy']:.4f}, 95 % interval" in printed
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert sum("test/accuracy" in line for line in metrics) == 1

    def fail(*_: Any) -> None:
        raise AssertionError("tested again")

    monkeypatch.setattr(Trainer, "test", fail)
    train(overrides)  # finished
    (tmp_path / "run" / "summary.json").write_text(json.dumps({**first, "step": 0}))
    train(overrides)  # the best checkpoint has been tested
    assert summary(tmp_path)["test"] == first["test"]


def test_a_resumed_run_tests_a_new_best_checkpoint(tmp_path: Path) -> None:
    overrides = overrides_for(tmp_path, "regression", "corpus.test=0.2")
    train([*overrides, "train.max_steps=4"])
    first = summary(tmp_path)
    train(overrides)
    second = summary(tmp_path)
    assert second["best_step"] > first["best_step"] == first["test_step"]
    assert second["test_step"] == second["best_step"]
    assert second["test"] != first["test"]


@pytest.mark.parametrize(
    "task, metric",
    [
        ("language_modeling", "perplexity"),
        ("translation", "bleu"),
        ("tagging", "f1"),
        ("multilabel", "micro_f1"),
    ],
)
def test_other_tasks_have_a_test_split(task: str, metric: str, tmp_path: Path) -> None:
    train(overrides_for(tmp_path, task, "corpus.test=0.15"))
    found = summary(tmp_path)
    assert found["test"]["examples"] > 0
    low, high = found["intervals"][metric]
    assert low <= found["test"][metric] <= high
    assert found["intervals"]["loss"][0] < found["test"]["loss"] < found["intervals"]["loss"][1]


@pytest.mark.distributed
def test_results_do_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    overrides = overrides_for(tmp_path, "classification", "corpus.test=0.2")
    train(overrides)
    one = summary(tmp_path)
    status, _, err = run(*overrides, f"run.dir={tmp_path}/two", nproc=2)
    assert status == 0, err
    two = json.loads((tmp_path / "two" / "summary.json").read_text())
    assert two["test_step"] == one["test_step"]
    for name, value in one["test"].items():
        assert two["test"][name] == pytest.approx(value, rel=1e-4), name
    for name, bounds in one["intervals"].items():
        assert two["intervals"][name] == pytest.approx(bounds, rel=1e-3), name
