"""`metrics.jsonl` has one JSON object per line, and a resumed run logs no step twice."""

import json
from pathlib import Path

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
