"""Fixtures: the small corpus of each task and a run on it, made once per session."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # torch imports Triton, which reads it

from pipeline import config, tasks
from pipeline.corpus.dataset.manifest import Manifest, open_dataset
from pipeline.corpus.prepare.prepare import prepare
from pipeline.training import session
from tests.helpers.corpora import CASES, small_run_overrides


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the modules with distributed tests first, so that the workers end at the same time."""
    slow = {item.path for item in items if item.get_closest_marker("distributed")}
    items.sort(key=lambda item: item.path not in slow)  # stable: modules stay together


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that returns the folder of a task's corpus and shards, which it makes once."""
    folders: dict[str, Path] = {}

    def corpus(task: str) -> Path:
        if task not in folders:
            folders[task] = folder = tmp_path_factory.mktemp(task)
            CASES[task].write(folder / CASES[task].file, CASES[task].rows)
            settings = config.load(None, small_run_overrides(folder, task)).corpus
            prepare(settings, tasks.fields(task, settings))
        return folders[task]

    return corpus


@pytest.fixture(scope="session")
def runs(
    corpora: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """A function that returns the folder of a task's run, which it trains once."""
    folders: dict[str, Path] = {}

    def run(task: str) -> Path:
        if task not in folders:
            folder = tmp_path_factory.mktemp(f"run-{task}")
            overrides = [*small_run_overrides(corpora(task), task), f"run.dir={folder}"]
            session.train(config.load(None, [*overrides, "train.max_steps=2", "train.epochs=1"]))
            folders[task] = folder
        return folders[task]

    return run


@pytest.fixture(scope="session")
def corpus(corpora: Callable[[str], Path]) -> Path:
    """A folder with reviews.csv and its shards, about 800 rows of which are for training."""
    return corpora("classification")


@pytest.fixture(scope="session")
def case(request: pytest.FixtureRequest, corpora: Callable[[str], Path]) -> list[str]:
    """The overrides for a small run of the task that a test names as an indirect parameter."""
    return small_run_overrides(corpora(request.param), request.param)


@pytest.fixture(scope="session")
def manifest(corpus: Path) -> Manifest:
    """The dataset of `corpus`."""
    return open_dataset(corpus / "shards")
