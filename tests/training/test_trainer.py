"""The end of a run: its last evaluation, its best checkpoint and its learning rate."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from pipeline import config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.run.checkpoint import read_state
from pipeline.run.folder import RunFolder
from pipeline.runtime.process_group import World
from pipeline.tasks.base.task import Evaluation
from pipeline.training.evaluator import EvaluationStoppedError
from pipeline.training.session import build
from pipeline.training.trainer import Trainer
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import call, metrics


@pytest.fixture
def make(corpus: Path, manifest: Manifest, tmp_path: Path) -> Callable[..., Trainer]:
    """A function that returns a trainer, one that resumes if there is a checkpoint."""

    def trainer(*overrides: str, name: str = "run", source: str = "") -> Trainer:
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir(exist_ok=True)
        settings = config.load(
            None, [*small_run_overrides(corpus), f"run.dir={folder.path}", *overrides]
        )
        latest = tmp_path / (source or name) / "checkpoints" / "latest"
        path = latest.resolve() if latest.exists() else None
        return build(settings, manifest, World(0, 1, torch.device("cpu")), folder, path)

    return trainer


def with_accuracy(trainer: Trainer, accuracy: Callable[[int], float]) -> list[int]:
    """Let evaluations return these accuracies by step; return the list of evaluated steps."""
    steps: list[int] = []

    def evaluate() -> Evaluation:
        steps.append(trainer.state.step)
        evaluation = Evaluation({"accuracy": accuracy(trainer.state.step), "loss": 1.0})
        trainer._evaluation = trainer.state.step, evaluation
        return evaluation

    trainer.evaluate = evaluate  # type: ignore[method-assign]
    return steps


@pytest.mark.parametrize("every", [2, 5, 100])
def test_the_last_step_of_max_steps_is_the_best_checkpoint_if_it_is_better(
    make: Callable[..., Trainer], tmp_path: Path, every: int
) -> None:
    """Whether or not a checkpoint is due there."""
    trainer = make("train.max_steps=5", "train.evaluate_every=2", f"train.checkpoint_every={every}")
    steps = with_accuracy(trainer, lambda step: step / 10)
    assert trainer.train() == "max_steps"
    assert steps == [2, 4, 5]
    assert (trainer.state.best, trainer.state.best_step, trainer.state.stale) == (0.5, 5, 0)
    folder = RunFolder(tmp_path / "run")
    assert folder.best_checkpoint().name == "step-00000005"
    assert trainer.checkpointer.read_state(folder.best_checkpoint()).best_step == 5


def test_a_worse_last_step_does_not_count_for_patience(
    make: Callable[..., Trainer], tmp_path: Path
) -> None:
    trainer = make("train.max_steps=5", "train.evaluate_every=2")
    with_accuracy(trainer, lambda step: 1 - step / 10)
    trainer.train()
    assert (trainer.state.best_step, trainer.state.stale) == (2, 1)
    assert RunFolder(tmp_path / "run").best_checkpoint().name == "step-00000002"


def test_a_run_that_resumes_at_its_end_evaluates_and_keeps_the_best(
    make: Callable[..., Trainer], tmp_path: Path
) -> None:
    """The first run was killed before it could evaluate its last step."""
    first = make("train.max_steps=5", "train.evaluate_every=2")
    with_accuracy(first, lambda step: step / 10)
    first._evaluate_end = lambda: None  # type: ignore[method-assign]
    first.train()
    assert RunFolder(tmp_path / "run").best_checkpoint().name == "step-00000004"
    second = make("train.max_steps=5", "train.evaluate_every=2")
    steps = with_accuracy(second, lambda step: step / 10)
    assert second.train() == "max_steps"
    assert steps == [5]
    assert RunFolder(tmp_path / "run").best_checkpoint().name == "step-00000005"


@pytest.mark.parametrize("name", ["run", "branch"])
def test_a_stopped_evaluation_is_repeated(
    make: Callable[..., Trainer], tmp_path: Path, name: str
) -> None:
    options = ["train.max_steps=3", "train.evaluate_every=2"]
    first = make(*options)

    def stopped() -> Evaluation:
        raise EvaluationStoppedError

    first.evaluate = stopped  # type: ignore[method-assign]
    assert first.train() == "signal"
    checkpoint = RunFolder(tmp_path / "run").checkpoints / "step-00000002"
    assert json.loads((checkpoint / "state.json").read_text())["training"]["evaluation_due"]
    second = make(*options, name=name, source="run")
    assert second.state.evaluation_due
    steps = with_accuracy(second, lambda step: 1 - step / 10)
    assert second.train() == "max_steps"
    assert steps == [2, 3]
    repeated = tmp_path / name / "checkpoints" / "step-00000002"
    assert not read_state(repeated, {})[0].evaluation_due


def test_damaged_results_of_an_evaluation_are_not_used(
    make: Callable[..., Trainer], tmp_path: Path
) -> None:
    options = ["train.max_steps=2", "train.evaluate_every=2"]
    first = make(*options)
    with_accuracy(first, lambda step: step / 10)
    first.train()
    path = tmp_path / "run" / "checkpoints" / "step-00000002" / "evaluated.json"
    content = path.read_text()
    assert not make(*options).state.evaluation_due
    for damaged in (content[:-20], content.replace('"before": "', '"before": "0'), "", "[]"):
        path.write_text(damaged)
        assert make(*options).state.evaluation_due


ACCURACIES = {2: 0.2, 4: 0.4, 5: 0.9, 6: 0.5, 8: 0.6, 9: 0.3}


@pytest.mark.parametrize("patience", [0, 1])
def test_an_extended_run_has_the_best_checkpoint_of_an_uninterrupted_one(
    make: Callable[..., Trainer],
    tmp_path: Path,
    patience: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The evaluation of step 5, the best of all, was due only because the first run ended there."""
    keys = (
        "train.evaluate_every=2", "train.checkpoint_every=1", "train.keep_checkpoints=1",
        f"train.patience={patience}",
    )  # fmt: skip
    whole = make(*keys, "train.max_steps=9", name="whole")
    with_accuracy(whole, ACCURACIES.__getitem__)
    assert whole.train() == "max_steps"
    first = make(*keys, "train.max_steps=5")
    with_accuracy(first, ACCURACIES.__getitem__)
    first.train()
    folder = RunFolder(tmp_path / "run")
    assert folder.best_checkpoint().name == "step-00000005"
    assert (folder.checkpoints / "step-00000004").is_dir(), "an extended run needs it"
    caplog.set_level("INFO", logger="pipeline.training.trainer")
    second = make(*keys, "train.max_steps=9")
    (line,) = [r.message for r in caplog.records if r.name == "pipeline.training.trainer"]
    assert line.startswith("step 5 was evaluated only because the run ended there; step 4 is the")
    steps = with_accuracy(second, ACCURACIES.__getitem__)
    assert second.train() == "max_steps"
    assert steps == [6, 8, 9]
    found, expected = second.state, whole.state
    assert (found.best, found.best_step, found.stale) == (0.6, 8, 0)
    assert (expected.best, expected.best_step, expected.stale) == (0.6, 8, 0)
    assert folder.best_checkpoint().name == "step-00000008"


@pytest.mark.parametrize("keys, jumps", [((), True), (("train.schedule_epochs=1",), False)])
def test_extending_a_run_keeps_its_schedule_if_asked(
    keys: tuple[str, ...], jumps: bool, corpus: Path, tmp_path: Path
) -> None:
    """One epoch, then two: without the key, the learning rate rises again."""
    overrides = [
        *small_run_overrides(corpus), f"run.dir={tmp_path}", "train.log_every=1",
        "train.min_lr_ratio=0.1", "train.lr=0.01",
    ]  # fmt: skip
    status, _, err = call("train", *overrides, "train.epochs=1")
    assert status == 0, err
    end = metrics(tmp_path)[-1]["step"]
    status, _, err = call("train", *overrides, "train.epochs=2", *keys)
    assert status == 0, err
    assert ("train.schedule_epochs=1 keeps the old schedule" in err) == jumps
    assert ("the learning-rate schedule still spans 1 epoch(s)" in err) != jumps
    rates = {line["step"]: line["optim/lr"] for line in metrics(tmp_path) if "optim/lr" in line}
    assert rates[end] == pytest.approx(0.001)
    later = [rate for step, rate in rates.items() if step > end]
    assert later
    if jumps:
        assert later[0] > 0.004
    else:
        assert later == pytest.approx([0.001] * len(later))
