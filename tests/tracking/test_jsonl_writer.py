"""`metrics.jsonl` is JSON a line, and a resumed run does not say a step twice."""

import json
from pathlib import Path

from pipeline.tracking.jsonl_writer import JsonlWriter, read


def test_steps_that_are_done_again_are_cut(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    first = JsonlWriter(path, 0)
    for step in (1, 2, 3):
        first.log(step, {"train/loss": step / 10})
    first.close()
    with path.open("a") as file:
        file.write('{"step": 4, "train/lo')  # torn by a crash
    again = JsonlWriter(path, 2)
    again.log(3, {"train/loss": 7.0})
    again.sync()
    again.close()
    assert [(line["step"], line["train/loss"]) for line in read(path)] == [
        (1, 0.1), (2, 0.2), (3, 7.0),
    ]  # fmt: skip


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    record = JsonlWriter(tmp_path / "m", 0)
    record.log(1, {"a": float("nan"), "b": float("inf"), "c": 1.0})
    line = json.loads((tmp_path / "m").read_text())
    assert (line["a"], line["b"], line["c"]) == (None, None, 1.0)
    assert line["time"] > 1e9
