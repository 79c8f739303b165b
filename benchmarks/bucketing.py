"""What batching rows of similar length does to the accuracy: with and without, several seeds.

    python benchmarks/bucketing.py [--seeds 0 1 2] [--jobs 1] [key=value ...]

Trains the default config (configs/imdb.yaml), or what the overrides make of it, in one process a
run, and prints each run's last validation accuracy, its padding and its time.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

ROOT = Path(__file__).parents[1]
SWITCH = {True: "similar lengths (default)", False: "rows at random"}


def train(folder: Path, bucketing: bool, seed: int, overrides: list[str]) -> dict[str, float]:
    """The last figures of one run."""
    run = folder / f"{bucketing}-{seed}"
    command = [
        sys.executable, str(ROOT / "launch" / "train.py"), f"train.seed={seed}",
        f"stream.bucketing={str(bucketing).lower()}", "track.enabled=false", f"run.dir={run}",
        *overrides,
    ]  # fmt: skip
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, env=env, capture_output=True, cwd=ROOT)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    padding = [line["perf/padding_fraction"] for line in lines if "perf/padding_fraction" in line]
    summary = json.loads((run / "summary.json").read_text())
    return {
        "accuracy": summary["validation"]["accuracy"],
        "padding": statistics.mean(padding),
        "seconds": summary["seconds"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time, each on one core")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_args()
    runs = list(product(args.seeds, SWITCH))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:
        found = list(
            pool.map(lambda run: train(Path(folder), run[1], run[0], args.overrides), runs)
        )
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {args.jobs} run(s) at a time")
    print("| batches of | " + " | ".join(f"seed {seed}" for seed in args.seeds), end=" |")
    print(" mean | padding | seconds |\n|" + "---|" * (len(args.seeds) + 4))
    for bucketing, name in SWITCH.items():
        own = [figures for run, figures in zip(runs, found, strict=True) if run[1] == bucketing]
        accuracy = [figures["accuracy"] for figures in own]
        print(
            f"| {name} | "
            + " | ".join(f"{value:.4f}" for value in accuracy)
            + f" | {statistics.mean(accuracy):.4f} "
            f"| {statistics.mean(figures['padding'] for figures in own):.3f} "
            f"| {statistics.mean(figures['seconds'] for figures in own):.0f} |"
        )


if __name__ == "__main__":
    main()
