"""Callbacks run at the same updates on all ranks, and resume with the run."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline import components, config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.errors import RunError, TrainingError
from pipeline.run.folder import RunFolder
from pipeline.runtime.process_group import World
from pipeline.settings import changed_keys
from pipeline.training.callback_list import CallbackList
from pipeline.training.session import build
from pipeline.training.trainer import Trainer
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import (
    error_lines,
    reproducible_metrics,
    run,
    was_killed,
    weights,
)

FILE = """
import torch
from pipeline.settings import setting
from pipeline.training.callback import Callback
from pipeline.training.settings import TrainSettings

calls = []

class Recorder(Callback):
    def before_step(self, run, clip_factor):
        assert all(p.grad is not None for p in run.model.parameters() if p.requires_grad)
        calls.append((type(self).__name__, "before_step", run.step))
    def updated(self, run, step, metrics):
        assert step == run.step and "loss" in metrics
        calls.append((type(self).__name__, "updated", step))
    def evaluated(self, run, step, evaluation):
        assert "accuracy" in evaluation.metrics
        calls.append((type(self).__name__, "evaluated", step))
    def saved(self, run, step, path):
        assert path.name == f"step-{step:08}" and path.is_dir()
        calls.append((type(self).__name__, "saved", step))
    def ended(self, run, reason):
        calls.append((type(self).__name__, "ended", reason))

class Other(Recorder):
    pass

class Decay(Callback):
    '''Multiplies the weights after each update by a factor that depends on the state.'''
    class Settings(TrainSettings):
        rate: float = setting(0.01, "rate of the decay")
    count = 0
    @torch.no_grad()
    def updated(self, run, step, metrics):
        self.count += 1
        for parameter in run.model.parameters():
            parameter.mul_(1 - self.settings.rate / self.count)
        run.log({"decay/count": self.count})
    def state_dict(self):
        return {"count": self.count}
    def load_state_dict(self, state):
        self.count = state["count"]

class Stop(Callback):
    '''Asks for the end of training on the last rank only.'''
    def updated(self, run, step, metrics):
        if step == 5 and run.rank == 1:
            run.stop("enough")

class StopAtEvaluation(Callback):
    def evaluated(self, run, step, evaluation):
        if run.rank == 1:
            run.stop("good enough")

class Fails(Callback):
    def updated(self, run, step, metrics):
        if step == 3:
            raise KeyError("norm")

class NoState(Callback):
    def state_dict(self):
        return {"model": torch.zeros(1)}
    def load_state_dict(self, state):
        self.count = state["count"]
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


@pytest.fixture
def make(corpus: Path, manifest: Manifest, tmp_path: Path) -> Callable[..., Trainer]:
    """A function that returns a trainer of one process with overrides."""

    def trainer(*overrides: str) -> Trainer:
        folder = RunFolder(tmp_path / "run")
        folder.path.mkdir(exist_ok=True)
        settings = config.load(
            None, [*small_run_overrides(corpus), f"run.dir={folder.path}", *overrides]
        )
        return build(settings, manifest, World(0, 1, torch.device("cpu")), folder, None)

    return trainer


class Log:
    """A listener that keeps the logged metrics by step."""

    def __init__(self) -> None:
        self.metrics: dict[int, dict[str, float]] = {}

    def log(self, step: int, metrics: Any) -> None:
        self.metrics.setdefault(step, {}).update(metrics)

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **keywords: None


def callback_list(*names: str) -> CallbackList:
    return CallbackList(config.load(None, [f"train.callbacks=[{', '.join(names)}]"]).train)


def test_moments_are_called_in_order(make: Callable[..., Trainer], file: Path) -> None:
    trainer = make(
        f"train.callbacks=[{file}:Recorder, {file}:Other]", "train.evaluate_every=2",
        "train.checkpoint_every=3", "train.max_steps=3",
    )  # fmt: skip
    calls = components.load("callback", f"{file}:Recorder").updated.__globals__["calls"]
    calls.clear()
    trainer.train()
    moments = [call for name, *call in calls if name == "Recorder"]
    assert moments == [
        ["before_step", 1], ["updated", 1],
        ["before_step", 2], ["updated", 2], ["evaluated", 2], ["saved", 2],
        ["before_step", 3], ["updated", 3], ["saved", 3],
        ["ended", "max_steps"],
    ]  # fmt: skip
    assert [name for name, *_ in calls] == ["Recorder", "Other"] * len(moments)


def test_without_callbacks_nothing_is_called_or_saved(make: Callable[..., Trainer]) -> None:
    trainer = make("train.max_steps=1")
    assert not trainer.callbacks
    assert not trainer.callbacks.has_updated
    assert not trainer.callbacks.has_before_step
    trainer.train()
    (path,) = trainer.checkpointer.folder.checkpoints.glob("step-*")
    assert "callbacks" not in json.loads((path / "state.json").read_text())["components"]


def test_gradient_norms_equal_a_manual_computation(make: Callable[..., Trainer]) -> None:
    options = ["train.log_every=2", "train.max_steps=4", "train.max_grad_norm=0.01"]
    plain = make(*options)
    expected = {}
    for update in plain.stream.remaining():
        if plain.state.step == 3:
            sums = plain._accumulate_gradients(update)
            gradients: dict[str, list[torch.Tensor]] = {}
            for name, parameter in plain.model.named_parameters():
                assert parameter.grad is not None
                gradient = parameter.grad * (update.rows / sums[1]).float()
                gradients.setdefault(name.partition(".")[0], []).append(gradient.flatten())
            expected = {name: float(torch.cat(parts).norm()) for name, parts in gradients.items()}
            plain.model.zero_grad()
        plain._update(update)
        if plain.state.step == 4:
            break
    trainer = make("train.callbacks=[gradient_norms]", *options)
    trainer.listener = log = Log()
    trainer.train()
    for logged, parameter in zip(trainer.model.parameters(), plain.model.parameters(), strict=True):
        assert logged.equal(parameter)  # the callback does not change the results
    assert len(expected) > 1
    for name, norm in expected.items():
        assert log.metrics[4][f"grad_norm/{name}"] == pytest.approx(norm, rel=1e-5)
    norms = [v for name, v in log.metrics[4].items() if name.startswith("grad_norm/")]
    assert math.hypot(*norms) == pytest.approx(log.metrics[4]["optim/grad_norm"], rel=1e-5)
    assert "grad_norm/embedding" not in log.metrics.get(3, {})
    assert sorted(log.metrics) == [2, 4]


def test_an_exception_is_one_line_that_names_the_callback(
    make: Callable[..., Trainer], file: Path
) -> None:
    trainer = make(f"train.callbacks=[{file}:Fails]", "train.checkpoint_every=2")
    with pytest.raises(TrainingError) as caught:
        trainer.train()
    (line,) = caught.value.lines
    assert line.startswith(f"step 3: train.callbacks: {file}:Fails: KeyError: 'norm' (mine.py, ")
    (path,) = trainer.checkpointer.folder.checkpoints.glob("step-*")
    assert path.name == "step-00000002"


def test_a_state_that_is_not_json_or_does_not_fit_is_one_line(file: Path) -> None:
    callbacks = callback_list(f"{file}:NoState")
    with pytest.raises(TrainingError, match=r"NoState: TypeError: Object of type Tensor is not"):
        callbacks.state_dict()
    with pytest.raises(RunError, match=r"NoState cannot restore its state: KeyError: 'count'"):
        callbacks.load_state_dict({"states": {f"{file}:NoState": {}}})


def test_a_checkpoint_without_a_state_restores_nothing(file: Path) -> None:
    callbacks = callback_list(f"{file}:Decay")
    callbacks.load_state_dict({})
    assert callbacks.state_dict()["states"] == {f"{file}:Decay": {"count": 0}}
    callbacks.load_state_dict({"states": {f"{file}:Decay": {"count": 3}}})
    assert callbacks.state_dict()["states"] == {f"{file}:Decay": {"count": 3}}


def test_other_callbacks_are_another_run() -> None:
    new = config.load(None, ["train.callbacks=[gradient_norms]"])
    assert list(changed_keys(config.load(), new)) == ["train.callbacks"]


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.campaign
def test_a_killed_run_resumes_the_state_bit_for_bit(
    corpus: Path, file: Path, tmp_path: Path
) -> None:
    """The checkpoints are not at the updates at which metrics are logged."""
    settings = [
        *small_run_overrides(corpus), f"train.callbacks=[{file}:Decay, gradient_norms]",
        "train.checkpoint_every=5", "train.log_every=3", "train.max_steps=13", "train.rate=0.1",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    status, _, err = run(*settings, f"run.dir={whole}", nproc=2)
    assert status == 0, err
    status, _, err = run(*settings, f"run.dir={killed}", nproc=2, crash=("update", 8))
    assert was_killed(status, err), err
    status, _, err = run(*settings, f"run.dir={killed}", nproc=2)
    assert status == 0, err
    assert weights(killed) == weights(whole)
    assert reproducible_metrics(killed) == reproducible_metrics(whole)
    counts = [line["decay/count"] for line in reproducible_metrics(whole) if "decay/count" in line]
    assert counts == list(range(1, 14))


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize(
    "name, reason, step", [("Stop", "enough", 6), ("StopAtEvaluation", "good enough", 4)]
)
def test_one_rank_of_two_ends_the_run_on_both(
    name: str, reason: str, step: int, corpus: Path, file: Path, tmp_path: Path
) -> None:
    settings = [
        *small_run_overrides(corpus), f"train.callbacks=[{file}:{name}]",
        "train.evaluate_every=4", f"run.dir={tmp_path}/run",
    ]  # fmt: skip
    for nproc in (2, 1):  # a finished run changes nothing
        status, out, err = run(*settings, nproc=nproc)
        assert status == 0, err
        assert f" at step {step}" in out
        latest = (tmp_path / "run/checkpoints/latest").readlink()
        assert latest.name == f"step-{step:08}"
    assert f"is finished: a callback ended it: {reason}" in err


@pytest.mark.slow
@pytest.mark.distributed
def test_an_exception_on_two_ranks_is_one_line_on_each(
    corpus: Path, file: Path, tmp_path: Path
) -> None:
    settings = [*small_run_overrides(corpus), f"train.callbacks=[{file}:Fails]"]
    status, _, err = run(*settings, f"run.dir={tmp_path}/run", nproc=2)
    assert status == 1
    lines = error_lines(err)
    assert lines
    assert all("Fails: KeyError: 'norm'" in line for line in lines)
    assert "[rank" not in err
