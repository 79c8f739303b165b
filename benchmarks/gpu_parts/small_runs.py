"""Small runs of every task on the corpora of the tests, in this process or as commands."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_parts.steps import Machine
from pipeline import config, tasks
from pipeline.config import Config
from pipeline.corpus.prepare.prepare import prepare
from pipeline.run.folder import RunFolder
from pipeline.runtime.process_group import World
from pipeline.training.session import build
from pipeline.training.trainer import Trainer
from tests.helpers.corpora import CASES, small_run_overrides

UPDATES = 12


class Recorder:
    """A listener that keeps the losses of a run without tracking."""

    def __init__(self) -> None:
        self.losses: dict[int, float] = {}

    def update(self, step: int, rows: int, metrics: Any) -> None:
        self.losses[step] = metrics["loss"]

    def log(self, step: int, metrics: Any) -> None: ...

    def evaluated(self, *_: Any, **__: Any) -> None: ...

    def saving(self) -> None: ...


def overrides(task: str, folder: Path) -> list[str]:
    """Write the task's small corpus into the folder, unless it exists; return its overrides."""
    case = CASES[task]
    if not (folder / case.file).exists():
        case.write(folder / case.file, case.rows)
    return small_run_overrides(folder, task)


def small_config(task: str, folder: Path, run: str, *changes: str) -> Config:
    """Return the config of a run of UPDATES updates in `folder`/`run`."""
    return config.load(
        None,
        [
            *overrides(task, folder), "train.log_every=1", f"train.max_steps={UPDATES}",
            "train.epochs=9", f"run.dir={folder}/{run}", *changes,
        ],
    )  # fmt: skip


def make_trainer(settings: Config, device: torch.device) -> Trainer:
    """Prepare the dataset if necessary and return the trainer of a new run."""
    manifest = prepare(settings.corpus, tasks.fields(settings.task.name, settings.corpus))
    folder = RunFolder(Path(settings.run.dir))
    return build(settings, manifest, World(0, 1, device), folder, None)


@contextmanager
def small_trainer(machine: Machine, task: str, *changes: str) -> Iterator[Trainer]:
    """Yield the trainer of a new small run in a temporary folder."""
    with tempfile.TemporaryDirectory() as name:
        settings = small_config(task, Path(name), "run", *changes)
        yield make_trainer(settings, machine.device)


def losses(run: Path) -> dict[int, float]:
    """Return the losses that a run has logged, by step."""
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    values = [json.loads(line) for line in lines if line.endswith("}")]
    return {int(v["step"]): v["train/loss"] for v in values if "train/loss" in v}


def weights(run: Path) -> bytes:
    return (run / "checkpoints" / "latest" / "model.safetensors").read_bytes()
