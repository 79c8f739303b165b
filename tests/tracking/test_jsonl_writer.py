"""`metrics.jsonl` has one JSON object per line, and a resumed run logs no step twice."""

import errno
import json
import os
from contextlib import nullcontext
from pathlib import Path

import pytest

from pipeline.tracking.jsonl_writer import JsonlWriter, read


def test_a_resumed_run_removes_the_lines_of_repeated_steps(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonlWriter(path, 0)
    for step in (1, 2, 3):
        first.log(step, {"train/loss": step / 10})
    first.close()
    with path.open("a") as file:
        file.write('{"step": 4, "train/lo')  # cut short by a crash
    resumed = JsonlWriter(path, 2)
    resumed.log(3, {"train/loss": 7.0})
    resumed.sync()
    resumed.close()
    assert [(line["step"], line["train/loss"]) for line in read(path)] == [
        (1, 0.1), (2, 0.2), (3, 7.0),
    ]  # fmt: skip


def test_values_that_are_not_finite_become_null(tmp_path: Path) -> None:
    writer = JsonlWriter(tmp_path / "m", 0)
    writer.log(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    line = json.loads((tmp_path / "m").read_text())
    assert (line["a"], line["b"], line["c"]) == (None, None, 1.0)
    assert line["time"] > 1e9


@pytest.mark.parametrize("number, ends", [(errno.EINVAL, False), (errno.EIO, True)])
def test_only_a_failing_disk_ends_a_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ends: bool
) -> None:
    """EINVAL is the answer of a file system that cannot flush a file."""

    def fsync(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    writer = JsonlWriter(tmp_path / "metrics.jsonl", 0)
    writer.log(1, {"train/loss": 0.5})
    with pytest.raises(OSError) if ends else nullcontext():
        writer.sync()
    writer.close()
    assert [line["step"] for line in read(tmp_path / "metrics.jsonl")] == [1]
