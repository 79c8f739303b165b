"""Fixtures: the small corpus of each task, prepared once a session."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"  # read when Triton is imported, as a part of torch does

from pipeline import config, tasks
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.prepare.prepare import prepare
from tests.helpers.corpora import CASES, small


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder with the corpus of a task and its shards, made when it is first asked for."""
    made: dict[str, Path] = {}

    def corpus(task: str) -> Path:
        if task not in made:
            made[task] = folder = tmp_path_factory.mktemp(task)
            CASES[task].write(folder / CASES[task].file, CASES[task].rows)
            settings = config.load(None, small(folder, task)).corpus
            prepare(settings, tasks.get(task).fields(settings))
        return made[task]

    return corpus


@pytest.fixture(scope="session")
def corpus(corpora: Callable[[str], Path]) -> Path:
    """A folder with reviews.csv and its shards, 800 rows of them in training."""
    return corpora("classification")


@pytest.fixture(scope="session")
def case(request: pytest.FixtureRequest, corpora: Callable[[str], Path]) -> list[str]:
    """The overrides of a small run of the task that a test is parametrized by, indirectly."""
    return small(corpora(request.param), request.param)


@pytest.fixture(scope="session")
def manifest(corpus: Path) -> Manifest:
    from pipeline.corpus.dataset.manifest import open_dataset

    return open_dataset(corpus / "shards")
