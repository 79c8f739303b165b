"""`environment.json`: what it says about a start, and that its failure stops nothing."""

import json
import platform
import sys
from pathlib import Path

import pytest
import torch

from pipeline.tracking import environment


def test_it_has_the_command_the_versions_and_the_changed_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["headrace", "train", "corpus.input=s3://me:word@host/a.csv"])
    facts = {"device": "CPU core", "torch": torch.__version__}
    thread = environment.write_in_thread(tmp_path, facts, {"train.lr": 0.1, "model.cell": "lstm"})
    thread.join(60)
    values = json.loads((tmp_path / "environment.json").read_text())
    assert values["command"] == "headrace train corpus.input=s3://host/a.csv"
    assert values["changed_keys"] == ["model.cell", "train.lr"]
    assert values["device"] == "CPU core"
    assert values["python"] == platform.python_version()


def test_a_folder_that_cannot_be_written_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    environment.write_in_thread(tmp_path / "file", {}, {}).join(60)
    assert "environment.json cannot be written" in caplog.text
