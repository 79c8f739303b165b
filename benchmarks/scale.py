"""Measure how long planning and resuming take for a million to a billion rows and 8 to 1,024 ranks.

    python benchmarks/scale.py [--rows 1e6 1e9] [--folder FOLDER]

For each number of rows the script writes an index, with log-normal lengths (sigma 0.9, cut at 1,024
tokens) but without the shards that the index refers to. For each number of ranks a fresh process
then acts as one rank: it opens the index, plans the first window, and resumes at 90 % of the epoch.
The columns:

  start         time to open the index and plan the first window
  resume        time to open the index and plan the window at 90 % of the epoch
  plan          median time to plan one window
  train         time to train on a window, at --speed tokens per second on each rank
  ratio         train divided by plan
  memory        peak memory of the process minus its memory after imports
  tokens held   memory for the tokens of two windows in this rank's lanes, as a loader holds them
  not padding   share of the tokens in a window's batches that are not padding
  shards read   shard bytes that all nodes of 8 ranks read per epoch, divided by the dataset's size
  index read    index bytes that all ranks read per epoch, divided by the dataset's size
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

ROWS_PER_BLOCK = 512
MAX_LENGTH = 1024
BYTES_PER_TOKEN = 2
SALT = 7
RANKS_PER_NODE = 8
WORLDS = {8: (24, 16), 64: (64, 16), 256: (256, 4), 1024: (1024, 2)}
"""Number of ranks -> (lanes, blocks per lane in a window)."""


def make_index(path: Path, rows: int) -> None:
    """Write an index whose block records look like those of a real corpus."""
    import numpy as np

    from pipeline.corpus.dataset.index import checksums, record_dtype, write_header

    blocks = math.ceil(rows / ROWS_PER_BLOCK)
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(5.2, 0.9, 1 << 22), 1, MAX_LENGTH).astype(np.uint16)
    with path.open("wb") as file:
        write_header(file, blocks, ROWS_PER_BLOCK)
        offset = 0
        for first in range(0, blocks, 1 << 12):
            count = min(1 << 12, blocks - first)
            records = np.zeros(count, record_dtype(ROWS_PER_BLOCK))
            start = int(rng.integers(len(lengths)))
            records["lengths"] = np.roll(lengths, start)[: count * ROWS_PER_BLOCK].reshape(
                count, -1
            )
            records["rows"] = ROWS_PER_BLOCK
            if first + count == blocks:
                last_rows = rows - (blocks - 1) * ROWS_PER_BLOCK
                records["rows"][-1], records["lengths"][-1, last_rows:] = last_rows, 0
            records["bytes"] = records["lengths"].sum(1, dtype=np.int64) * BYTES_PER_TOKEN
            records["offset"] = offset + np.cumsum(records["bytes"]) - records["bytes"]
            offset += int(records["bytes"].sum())
            records["record_crc32"] = checksums(records, SALT, range(first, first + count))
            file.write(records.tobytes())


def peak_memory() -> float:
    """Return the peak resident memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1000


def measure(path: Path, rows: int, world: int, budget: int) -> dict[str, float]:
    """Measure the last rank: start, resume at 90 % of the epoch, and plan single windows."""
    import numpy as np

    from pipeline.storage.local import LocalStore
    from pipeline.stream.index import Index
    from pipeline.stream.plan import Plan, PlanSource, Position
    from pipeline.stream.settings import StreamSettings

    lanes, window_blocks = WORLDS[world]
    memory_before = peak_memory()

    def plan() -> Plan:
        split: Any = SimpleNamespace(rows=rows, tokens=0, max_length=MAX_LENGTH, salt=SALT)
        index = Index(LocalStore(path.parent), path.name, split)
        settings = StreamSettings(
            lanes=lanes, shuffle_window=window_blocks, token_budget=budget * world
        )
        return Plan([PlanSource(index, "0" * 64)], settings, 0)

    begin = time.perf_counter()
    opened = plan()
    opened.share(opened.window(0, 0), world - 1, world)
    start = time.perf_counter() - begin
    begin = time.perf_counter()
    resumed = plan()
    position = Position(0, int(resumed.window_count(0) * 0.9), 1)
    window, _ = next(resumed.from_position(position))
    resumed.share(window, world - 1, world)
    resume = time.perf_counter() - begin
    times = []
    for number in range(3):
        begin = time.perf_counter()
        window = resumed.window(0, number % resumed.window_count(0))
        resumed.share(window, world - 1, world)
        times.append(time.perf_counter() - begin)
    nodes = max(1, world // RANKS_PER_NODE)
    sizes = np.array([block.bytes for block in window.blocks])
    fetched = sum(
        sizes[np.unique(resumed.share(window, node, nodes).block)].sum() for node in range(nodes)
    )
    tokens = int(sum(block.lengths.sum(dtype=np.int64) for block in window.blocks))
    record_bytes = 32 + 2 * ROWS_PER_BLOCK
    padded = sum(cut.padded_tokens for update in window.updates for cut in update)
    return {
        "windows": resumed.window_count(0),
        "start": start,
        "resume": resume,
        "plan": sorted(times)[1],
        "tokens": tokens,
        "filled": tokens / padded,
        "memory": peak_memory() - memory_before,
        "fetched": fetched / sizes.sum(),
        "index": len(window.blocks) * record_bytes * world / sizes.sum(),
        "held": 2 * tokens * BYTES_PER_TOKEN / world / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", nargs="+", type=float, default=[1e6, 1e7, 1e8, 1e9])
    parser.add_argument("--folder", type=Path, help="parent folder for index files [temporary]")
    parser.add_argument("--budget", type=int, default=16384, help="token budget per rank [16384]")
    parser.add_argument("--speed", type=float, default=60_000, help="tokens/s per rank [60000]")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        path, rows, world = Path(args.one[0]), int(args.one[1]), int(args.one[2])
        print(json.dumps(measure(path, rows, world, args.budget)))
        return
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores")
    print(
        "| rows | ranks | lanes x blocks | start | resume | plan | train | ratio | memory |"
        " tokens held | not padding | shards read | index read |"
    )
    print("|" + "---|" * 13)
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        for rows in map(int, args.rows):
            path = Path(folder) / "index.npy"
            make_index(path, rows)
            for world, (lanes, window) in WORLDS.items():
                command = [sys.executable, __file__, "--budget", str(args.budget), "--one"]
                process = subprocess.run(
                    [*command, path, str(rows), str(world)], check=True, capture_output=True
                )
                m = json.loads(process.stdout)
                trained = m["tokens"] / world / args.speed
                print(
                    f"| {rows:.0e} | {world} | {lanes} x {window} | {m['start']:.2f} s "
                    f"| {m['resume']:.2f} s | {m['plan'] * 1000:.0f} ms | {trained:.0f} s "
                    f"| {trained / m['plan']:,.0f} | {m['memory']:.0f} MB | {m['held']:.0f} MB "
                    f"| {m['filled']:.3f} | {m['fetched']:.3f} | {m['index']:.4f} |",
                    flush=True,
                )
            path.unlink()


if __name__ == "__main__":
    main()
