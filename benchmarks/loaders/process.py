"""Run one stage of one system on one core and print the result as JSON.

    python -m benchmarks.loaders.process SYSTEM STAGE FOLDER

FOLDER contains the corpus as `rows`; the stage "convert" writes the system's files to `data`.
"""

import hashlib
import importlib
import json
import math
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from benchmarks.loaders.common import Batch, Rows

EPOCHS = 3
"""Measured epochs, after one warm-up epoch."""
CHECKPOINT_AT = 0.9
"""Fraction of an epoch after which the state is saved."""


def main() -> None:
    system, stage, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    module = importlib.import_module(f"benchmarks.loaders.{system}")
    print(json.dumps(STAGES[stage](module, folder)))


def convert(module: Any, folder: Path) -> Any:
    """Write the corpus in the system's format; return the seconds and bytes that it took."""
    rows = Rows.load(folder / "rows")
    start = time.perf_counter()
    module.convert(rows, folder / "data")
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())
    return {"seconds": seconds, "bytes": size}


def epochs(module: Any, folder: Path) -> Any:
    """Return the non-padding tokens per second of each epoch, and the peak memory."""
    rss_after_imports = _process_status("VmRSS")
    loader = module.Loader(folder / "data")
    speeds = []
    for number in range(EPOCHS + 1):
        rows = tokens = padded = 0
        start = time.perf_counter()
        for batch in loader.epoch(number):
            rows += len(batch["labels"])
            tokens += int(batch["lengths"].sum())
            padded += batch["tokens"].numel()
        speeds.append(tokens / (time.perf_counter() - start))
    return {
        "settings": loader.settings,
        "resuming": loader.resuming,
        "tokens_per_s": speeds[1:],
        "rows": rows,
        "tokens": tokens,
        "not_padding": tokens / padded,
        "peak_bytes": _process_status("VmHWM") - rss_after_imports,
    }


def save(module: Any, folder: Path) -> Any:
    """Save the state after 90 % of an epoch's batches; return a digest of the next batch."""
    batches = sum(1 for _ in module.Loader(folder / "data").epoch(0))
    loader = module.Loader(folder / "data")
    stream = loader.epoch(0)
    for _ in islice(stream, math.ceil(batches * CHECKPOINT_AT)):
        pass
    (folder / "state.json").write_text(json.dumps(loader.state()))
    return {"next": _digest(stream)}


def resume(module: Any, folder: Path) -> Any:
    """Resume from the saved state; return the time to the first batch, and its digest.

    `open` is the time to construct the loader; `seconds` does not include it.
    """
    state = json.loads((folder / "state.json").read_text())
    begin = time.perf_counter()
    loader = module.Loader(folder / "data")
    opened = time.perf_counter()
    stream = loader.resume(state)
    first = next(stream)
    seconds = time.perf_counter() - opened
    return {"open": opened - begin, "seconds": seconds, "next": _digest(iter([first]))}


STAGES = {"convert": convert, "epochs": epochs, "save": save, "resume": resume}


def _digest(stream: Iterator[Batch]) -> str:
    """Return the SHA-256 of the stream's next batch."""
    batch = next(stream)
    return hashlib.sha256(b"".join(x.numpy().tobytes() for x in batch.values())).hexdigest()


def _process_status(name: str) -> int:
    """Return a memory field of /proc/self/status in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(name + ":"))
    return int(kilobytes) * 1024


if __name__ == "__main__":
    main()
