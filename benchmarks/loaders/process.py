"""One stage of one contender, in a process of its own on one core; prints its figures as JSON.

    python -m loaders.process SYSTEM STAGE FOLDER

In FOLDER lie `rows`, the corpus, and `data`, what the stage "convert" makes of it.
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

from loaders.common import Batch, Rows

EPOCHS = 3
POSITION = 0.9


def main() -> None:
    system, stage, folder = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    module = importlib.import_module(f"loaders.{system}")
    print(json.dumps(STAGES[stage](module, folder)))


def convert(module: Any, folder: Path) -> Any:
    rows = Rows.load(folder / "rows")
    start = time.perf_counter()
    module.convert(rows, folder / "data")
    seconds = time.perf_counter() - start
    size = sum(path.stat().st_size for path in (folder / "data").rglob("*") if path.is_file())
    return {"seconds": seconds, "bytes": size}


def epochs(module: Any, folder: Path) -> Any:
    """Epochs after one to warm up: non-padding tokens a second of each, and memory."""
    imported = _status("VmRSS")
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
        "peak_bytes": _status("VmHWM") - imported,
    }


def save(module: Any, folder: Path) -> Any:
    """Leave the state after 90 % of an epoch's batches; returns what the next batch is."""
    batches = sum(1 for _ in module.Loader(folder / "data").epoch(0))
    loader = module.Loader(folder / "data")
    stream = loader.epoch(0)
    for _ in islice(stream, math.ceil(batches * POSITION)):
        pass
    (folder / "state.json").write_text(json.dumps(loader.state()))
    return {"next": _digest(stream)}


def resume(module: Any, folder: Path) -> Any:
    """Seconds to the first batch after the state, once the loader is made, and what it is."""
    state = json.loads((folder / "state.json").read_text())
    begun = time.perf_counter()
    loader = module.Loader(folder / "data")
    made = time.perf_counter()
    stream = loader.resume(state)
    first = next(stream)
    seconds = time.perf_counter() - made
    return {"open": made - begun, "seconds": seconds, "next": _digest(iter([first]))}


STAGES = {"convert": convert, "epochs": epochs, "save": save, "resume": resume}


def _digest(stream: Iterator[Batch]) -> str:
    batch = next(stream)
    return hashlib.sha256(b"".join(x.numpy().tobytes() for x in batch.values())).hexdigest()


def _status(name: str) -> int:
    """Bytes that the kernel accounts to this process under a name."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith(name + ":"))
    return int(kilobytes) * 1024


if __name__ == "__main__":
    main()
