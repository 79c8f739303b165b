"""Fixtures: a run of a few steps of each task, trained once per session."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline import config
from pipeline.training import session
from tests.helpers.corpora import small_run_overrides


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
