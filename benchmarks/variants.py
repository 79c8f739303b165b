"""Compare variants of the default config: accuracy per seed, speed, padding and memory.

    python benchmarks/variants.py cells|bucketing [key=value ...] [--seeds 0 1 2] [--jobs 1]

Trains configs/imdb.yaml, with the given overrides, in one process per run.

  bucketing  batches of rows with similar lengths, and batches of random rows
  cells      each recurrent cell, with a hidden size that gives its layers about the same number of
             parameters as the default config's
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
VARIANTS = {
    "bucketing": {
        "similar lengths (default)": [],
        "random rows": ["stream.bucketing=false"],
    },
    "cells": {
        "lstm 128": [],
        "gru 150": ["model.cell=gru", "model.hidden=150"],
        "elman 272": ["model.cell=elman", "model.hidden=272"],
        "goru 160": ["model.cell=goru", "model.hidden=160", "model.goru_capacity=8"],
        "grid_lstm 108": ["model.cell=grid_lstm", "model.hidden=108"],
    },
}


def train(folder: Path, name: str, seed: int, overrides: list[str]) -> dict[str, float]:
    """Train a variant and return its final accuracy, speed, padding, memory and time."""
    run = folder / f"{name}-{seed}"
    command = [
        sys.executable, str(ROOT / "launch" / "train.py"), f"train.seed={seed}",
        "track.enabled=false", f"run.dir={run}", *overrides,
    ]  # fmt: skip
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, env=env, capture_output=True, cwd=ROOT, text=True)
    if process.returncode:
        raise SystemExit(
            f"error: command failed: {' '.join(command)}\n{process.stdout}{process.stderr}"
        )
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]

    def logged(key: str) -> list[float]:
        return [line[key] for line in lines if key in line]

    summary: dict[str, Any] = json.loads((run / "summary.json").read_text())
    metrics = {
        "accuracy": summary["validation"]["accuracy"],
        "tokens_per_s": summary["tokens_per_s"],
        "padding": statistics.mean(logged("perf/padding_fraction")),
        "memory": max(logged("perf/memory_mb")),
        "seconds": summary["seconds"],
    }
    print(name, f"seed {seed}:", metrics, file=sys.stderr)
    return metrics


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variants", choices=VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=1, help="simultaneous runs, each on one core")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args()
    variants = VARIANTS[args.variants]
    runs = list(product(args.seeds, variants))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(args.jobs) as pool:
        jobs = [
            pool.submit(train, Path(folder), name, seed, [*variants[name], *args.overrides])
            for seed, name in runs
        ]
        results = {run: job.result() for run, job in zip(runs, jobs, strict=True)}
    print(f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, torch {torch.__version__}, "
          f"Python {platform.python_version()}, {args.jobs} run(s) at a time")  # fmt: skip
    print("| | " + " | ".join(f"seed {seed}" for seed in args.seeds), end=" |")
    print(" mean | tokens/s | padding | MB | seconds |\n|" + "---|" * (len(args.seeds) + 6))
    for name in variants:
        runs_of_variant = [results[seed, name] for seed in args.seeds]
        median = {
            key: statistics.median(metrics[key] for metrics in runs_of_variant)
            for key in runs_of_variant[0]
        }
        accuracy = [metrics["accuracy"] for metrics in runs_of_variant]
        print(
            f"| {name} | "
            + " | ".join(f"{value:.4f}" for value in accuracy)
            + f" | {statistics.mean(accuracy):.4f} | {median['tokens_per_s']:,.0f} "
            f"| {median['padding']:.3f} | {median['memory']:,.0f} | {median['seconds']:.0f} |"
        )


if __name__ == "__main__":
    main()
