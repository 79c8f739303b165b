"""`metrics.jsonl`: the authoritative record of a run's metrics, one JSON object per line.

Each line has `step`, `time` (Unix seconds) and metrics by name. A value that is not finite is
null, because JSON cannot represent it.
"""

import json
import math
import os
import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.storage.atomic import CANNOT_SYNC, write_file


class JsonlWriter:
    """Appends lines to a metrics file after removing the lines past `step`.

    A run that is resumed from `step` repeats the later updates and logs them again; with
    `evaluates`, also the evaluation of that step.
    """

    def __init__(self, path: Path, step: int, *, evaluates: bool = False) -> None:
        if path.exists():
            _truncate_after(path, step, evaluates=evaluates)
        self._file = path.open("a", encoding="utf-8")

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line and flush it to the operating system."""
        values = {k: v if math.isfinite(v) else None for k, v in metrics.items()}
        line = {"step": step, "time": round(time.time(), 3), **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def sync(self) -> None:
        """Force all logged lines to disk, so that they survive a power failure."""
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            if error.errno not in CANNOT_SYNC:
                raise

    def close(self) -> None:
        self._file.close()


def read(path: Path) -> list[dict[str, float]]:
    """Return the file's complete lines; a line cut short by a crash is skipped."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            continue
    return lines


def _truncate_after(path: Path, step: int, *, evaluates: bool) -> None:
    """Atomically replace the file by its lines up to and including `step`.

    With `evaluates`, the lines from the evaluation of `step` on are removed, too.
    """
    kept = []
    for line in read(path):
        is_evaluation = line["step"] == step and any(name.startswith("val/") for name in line)
        if evaluates and is_evaluation:
            break
        if line["step"] <= step:
            kept.append(json.dumps(line) + "\n")
    write_file(path, "".join(kept))
