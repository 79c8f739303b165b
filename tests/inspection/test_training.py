"""The config that `headrace init` writes is trained with as it is."""

from pathlib import Path

import pytest

from tests.helpers.processes import call
from tests.inspection.tables import FORMS

SMALL = ("train.max_steps=2", "model.hidden=8", "corpus.vocab_size=300", "corpus.workers=1")
"""What makes two steps fast; nothing about the data."""


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_two_commands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write, task = FORMS[name]
    files = write()
    status, out, err = call("init", *files, "-o", "own.yaml")
    assert status == 0, err
    assert out.startswith(f"own.yaml: {task}, ")
    small = [s for s in SMALL if task != "images" or not s.startswith("corpus.vocab")]
    status, out, err = call("train", "--config", "own.yaml", *small, "track.trackers=[]")
    assert status == 0, err
    assert Path("runs/own/summary.json").is_file()
