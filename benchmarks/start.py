"""Measure how fast a trained run answers: start of a process, latency and memory.

    python benchmarks/start.py                  # trains a run of the size of configs/imdb.yaml
    python benchmarks/start.py --run runs/imdb

Each sample is a new process; the table has the medians. CPU time is the process's own, which other
programs on the machine change little. The run that is trained here has made-up words, a vocabulary
of 16,000 tokens and 2 updates: its weights say nothing, but they have the usual size. Prints the
table of docs/inference.md.
"""

import argparse
import csv
import gc
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).parents[1]
VOCABULARY = 16_000
WORDS_PER_REVIEW = 250
ROWS = 2000
LABELS = ["negative", "positive"]
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il")]
PARTS = {
    "interpreter": "Python itself",
    "torch": "`import torch`",
    "imports": "other imports",
    "config": "config, manifest and model without weights",
    "weights": "weights: checksum and reading",
    "prediction": "tokenizer and first prediction",
}
"""Parts of a process, in order."""
EXCLUDED = ("torch", "weights")
"""Parts that the goal does not count."""


def made_words(count: int) -> list[str]:
    """Return different made-up words."""
    draw = random.Random(0)
    words: dict[str, None] = {}
    while len(words) < count:
        words["".join(draw.choices(SYLLABLES, k=draw.randint(1, 4)))] = None
    return list(words)


def made_reviews(rows: int, words_per_review: int) -> Iterator[str]:
    """Yield texts in which the frequency of words follows Zipf's law."""
    words = made_words(2 * VOCABULARY)
    weights = [1 / rank for rank in range(1, len(words) + 1)]
    draw = random.Random(1)
    for _ in range(rows):
        yield " ".join(draw.choices(words, weights, k=words_per_review))


def train(folder: Path) -> Path:
    """Train a run of the size of configs/imdb.yaml for two updates and return its folder."""
    with (folder / "reviews.csv").open("w", newline="") as file:
        reviews = made_reviews(ROWS, WORDS_PER_REVIEW)
        rows = [("text", "label"), *((text, LABELS[n % 2]) for n, text in enumerate(reviews))]
        csv.writer(file).writerows(rows)
    overrides = [
        f"corpus.input={folder}/reviews.csv", f"corpus.shards={folder}/shards",
        f"corpus.vocab_size={VOCABULARY}", f"run.dir={folder}/run", "corpus.filters={}",
        "corpus.test=0.02", "corpus.validation=0.02", "train.max_steps=2", "track.enabled=false",
    ]  # fmt: skip
    command = [sys.executable, "launch/train.py", "-q", "--config", "configs/imdb.yaml"]
    subprocess.run([*command, *overrides], cwd=ROOT, check=True)
    return folder / "run"


def parts_of_process(run: Path) -> dict[str, dict[str, float]]:
    """Start a process that predicts one text; return the seconds of each part, wall and CPU."""
    started = time.perf_counter()
    report = _child("parts", run)
    before = {"wall": started, "cpu": 0.0}
    parts = {}
    for name, after in report.items():
        parts[name] = {clock: after[clock] - before[clock] for clock in after}
        before = after
    return parts


def command_seconds(run: Path) -> dict[str, float]:
    """Return the seconds of `echo text | launch/predict.py --run RUN`, wall and CPU."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(ROOT / "launch" / "predict.py"), "-q", "--run", str(run)]
    text = next(made_reviews(1, WORDS_PER_REVIEW))
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout), "no prediction"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall": time.perf_counter() - started, "cpu": cpu}


def _child(mode: str, run: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", mode, "--run", str(run)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return dict(json.loads(done.stdout))


def report_parts(run: Path) -> None:
    """Do what `headrace predict` does, and print the clocks after each part."""
    clocks: dict[str, dict[str, float]] = {}

    def done(name: str) -> None:
        clocks[name] = {"wall": time.perf_counter(), "cpu": time.process_time()}

    done("interpreter")
    gc.disable()  # as `paused_collection` in the command
    import torch  # noqa: F401

    done("torch")
    from pipeline.cli import predict  # noqa: F401
    from pipeline.inference import trained
    from pipeline.inference.predictor import Predictor
    from pipeline.inference.run_input import RawInput
    from pipeline.run import checkpoint

    done("imports")
    weights = {"wall": 0.0, "cpu": 0.0}
    for owner, name in ((checkpoint, "damage"), (trained, "load_weights")):
        _add_time(weights, owner, name)
    model = trained.load_trained(run)
    done("weights")
    clocks["config"] = {k: v - weights[k] for k, v in clocks["weights"].items()}
    clocks["weights"] = clocks.pop("weights")  # after config
    from pipeline.corpus.row import Row

    text = next(made_reviews(1, WORDS_PER_REVIEW))
    (prediction,) = Predictor(model).predict([RawInput("text", Row(1, None), text)])
    assert "error" not in prediction, prediction
    done("prediction")
    print(json.dumps(clocks))


def _add_time(total: dict[str, float], owner: Any, name: str) -> None:
    """Add the time of each call of a function to `total`."""
    function = getattr(owner, name)

    def timed(*arguments: Any, **options: Any) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return function(*arguments, **options)
        finally:
            total["wall"] += time.perf_counter() - wall
            total["cpu"] += time.process_time() - cpu

    setattr(owner, name, timed)


def report_latency(run: Path, predictions: int = 500) -> None:
    """Print the milliseconds of predictions of one review each, and the peak memory in MB."""
    import pipeline

    model = pipeline.load(run)
    reviews = list(made_reviews(50, WORDS_PER_REVIEW))
    for text in reviews[:20]:
        model.predict([text])
    times: dict[str, list[float]] = {"wall": [], "cpu": []}
    for number in range(predictions):
        wall, cpu = time.perf_counter(), time.process_time()
        model.predict([reviews[number % len(reviews)]])
        times["wall"].append((time.perf_counter() - wall) * 1e3)
        times["cpu"].append((time.process_time() - cpu) * 1e3)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(json.dumps({"times": times, "memory": memory}))


def quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def table_rows(run: Path, processes: int) -> Iterator[str]:
    """Yield the lines of the table."""
    command_seconds(run)  # the first process compiles the C++ loops and fills the page cache
    parts = [parts_of_process(run) for _ in range(processes)]
    commands = [command_seconds(run) for _ in range(processes)]
    yield "| part | wall | CPU |"
    yield "|---|---|---|"

    def row(name: str, values: Sequence[dict[str, float]]) -> str:
        wall, cpu = (median(value[clock] for value in values) * 1e3 for clock in ("wall", "cpu"))
        return f"| {name} | {wall:,.0f} ms | {cpu:,.0f} ms |"

    for name, text in PARTS.items():
        yield row(text, [part[name] for part in parts])
    beyond = [
        {
            clock: sum(part[name][clock] for name in PARTS if name not in EXCLUDED)
            for clock in ("wall", "cpu")
        }
        for part in parts
    ]
    yield row("all but `import torch` and the weights", beyond)
    yield row("`echo TEXT \\| launch/predict.py`", commands)
    latency = _child("latency", run)
    times = latency["times"]
    for share, name in ((0.5, "median"), (0.99, "99th percentile")):
        wall, cpu = (quantile(times[clock], share) for clock in ("wall", "cpu"))
        yield f"| one review, {name} of {len(times['wall'])} | {wall:.1f} ms | {cpu:.1f} ms |"
    yield f"| peak memory | {latency['memory']:,.0f} MB | |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--run", type=Path, help="a run of classification [a new one]")
    parser.add_argument("--processes", type=int, default=7, help="processes per line [7]")
    parser.add_argument("--child", choices=["parts", "latency"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        {"parts": report_parts, "latency": report_latency}[args.child](args.run)
        return
    with tempfile.TemporaryDirectory() as folder:
        for line in table_rows(args.run or train(Path(folder)), args.processes):
            print(line, flush=True)


if __name__ == "__main__":
    main()
