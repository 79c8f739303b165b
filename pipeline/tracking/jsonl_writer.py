"""`metrics.jsonl`: the truth about a run's metrics, one JSON object a line.

Each line has `step`, `time` (unix seconds) and metrics by name; a value that is not finite is
null, as JSON has no other word for it.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path


class JsonlWriter:
    """The file, opened to go on after `step`: later lines, of updates that are done again, go."""

    def __init__(self, path: Path, step: int) -> None:
        if path.exists():
            _keep_until(path, step)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        values = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        line = {"step": step, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Make sure that what was logged outlives a power cut."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[dict[str, float]]:
    """The whole lines of the file; one torn by a crash is left out."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _keep_until(path: Path, step: int) -> None:
    temporary = path.with_name(f".tmp-{path.name}")
    with temporary.open("w", encoding="utf-8") as file:
        for line in read(path):
            if line["step"] <= step:
                file.write(json.dumps(line) + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
