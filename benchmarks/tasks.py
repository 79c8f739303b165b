"""How fast each task trains, and how near that is to what the machine can multiply.

    python benchmarks/tasks.py [CONFIG ...] [--made] [key=value ...]
    python benchmarks/tasks.py gnmt --made --processes 1      # on one GPU

Each of configs/ that stands for a task is trained by launch/train.py as a user runs it, tracked in
MLflow, a process a core (or GPU), `--repeats` times; overrides are of all of them. With --made the
corpora are made: rows of random words, as long and of as many words as the real ones.

  tokens/s    tokens that are read (words, subwords, rows of pixels) and, of translations and
              captions, those that are written too, padding left out, start-up not counted: median,
              least to most
  per token   floating-point operations of the matrix products and convolutions of an update,
              forward and backward, over these tokens. Torch counts them over rows one at a time, so
              that padding counts nothing, with layers that it takes apart into products
              (model.native=false, no oneDNN)
  limit       the share of the arithmetic limit: tokens/s times these operations, over the rate at
              which as many processes at once multiply square matrices (1024 on a CPU, 8192 on a
              GPU) in the run's precision, measured after each run; their median
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks import machine, made, runs  # noqa: E402
from benchmarks.made import Shape  # noqa: E402
from pipeline import config as config_file  # noqa: E402
from pipeline import tasks  # noqa: E402
from pipeline.config import Config  # noqa: E402
from pipeline.corpus.dataset.manifest import Manifest, open_dataset  # noqa: E402
from pipeline.run import checkpoint  # noqa: E402
from pipeline.stream.batch import Batch, collate  # noqa: E402
from pipeline.stream.bptt import open_bptt  # noqa: E402
from pipeline.stream.plan import Position  # noqa: E402
from pipeline.stream.reader import Reader  # noqa: E402
from pipeline.stream.rows import Ragged, Rows, join  # noqa: E402

BLOCKS = 8
"""Of a dataset, spread evenly, by which the written tokens are counted."""
COUNTED = 16
"""Rows of these whose operations are counted."""


@dataclass(frozen=True)
class Plan:
    """What is trained of a config: so many updates, and what its corpus is like."""

    steps: int
    shape: Shape


PLANS = {
    "imdb": Plan(50, Shape(273, 0.6)),
    "reuters": Plan(100, Shape(154, 0.7)),
    "chunking": Plan(500, Shape(24, 0.6, words=8_350)),
    "multi30k_en_de": Plan(250, Shape(15, 0.3)),
    "gnmt": Plan(50, Shape(30, 0.6)),
    "mnist_rows": Plan(300, Shape(28, 0)),
    "digit_strips": Plan(100, Shape(28, 0, words=10)),
    "wikitext2": Plan(100, Shape(105, 1.3)),
}
"""The shapes were measured on the real corpora, but for gnmt's, which follows what WMT16 is known
to be: some 26 words a sentence, hence some 30 of 32,000 subwords."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--made", action="store_true", help="on made rows")
    parser.add_argument("--steps", type=int, help="updates of each run, at least 5 [by config]")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each config [3]")
    parser.add_argument("--processes", type=int, default=torch.cuda.device_count() or _cores())
    parser.add_argument("asked", nargs="*", metavar="CONFIG or key=value")
    args = parser.parse_intermixed_args()
    overrides = [text for text in args.asked if "=" in text]
    names = [text for text in args.asked if "=" not in text] or list(PLANS)
    if unknown := [name for name in names if name not in PLANS]:
        parser.error(f"{unknown[0]}: is measured of {', '.join(PLANS)}")
    if args.steps is not None and args.steps < 5:
        parser.error(f"--steps {args.steps}: the first fifth is start-up; give 5 or more")
    rows = "made rows" if args.made else "real corpora"
    print(f"{args.processes} process(es) on {machine.name()}; {rows}; "
          f"Python {platform.python_version()}, torch {torch.__version__}; "
          f"{datetime.date.today()}\n")  # fmt: skip
    print("| config | precision | tokens/s, median (least to most) | per token | limit |")
    print("|---|---|---|---|---|")
    for name in names:
        steps = args.steps or PLANS[name].steps
        print(measured(name, overrides, steps, args.processes, args.repeats, of_made=args.made))


def measured(
    name: str, overrides: list[str], steps: int, processes: int, repeats: int, *, of_made: bool
) -> str:
    """The line of a config."""
    path = REPOSITORY / "configs" / f"{name}.yaml"
    with tempfile.TemporaryDirectory() as folder:
        if of_made:
            config = config_file.load(path, overrides)
            shape = PLANS[name].shape
            rows = rows_of(config, shape, steps)
            overrides = [*made.write(config, shape, Path(folder, "made"), rows), *overrides]
        runs.prepare(overrides, path)
        speeds, limits = [], []
        for number in range(repeats):
            place = Path(folder, str(number))
            place.mkdir()
            speeds.append(runs.train(place, steps, processes, overrides, path))
            latest = place / "run" / "checkpoints" / "latest"
            precision = checkpoint.precision_of(latest.resolve())
            limits.append(machine.limit(precision, processes))
        config = config_file.load(path, [*overrides, "model.native=false"])
        manifest = open_dataset(config.corpus.shards)
        sampled = sample(manifest)
        written_too = tokens(manifest, sampled) / int(sampled.lengths.sum())
        speeds = [speed * written_too for speed in speeds]
        per_token = operations(config, manifest, sampled)
    shares = [per_token * speed / limit for speed, limit in zip(speeds, limits, strict=True)]
    speed, share = statistics.median(speeds), statistics.median(shares)
    spread = f"{speed:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
    return f"| {name} | {precision} | {spread} | {per_token / 1e6:,.1f}M | {share:.1%} |"


def rows_of(config: Config, shape: Shape, steps: int) -> int:
    """Rows that last for so many updates, or as many as name all words."""
    stream = config.stream
    padded = stream.batch_rows * stream.bptt_length if stream.batch_rows else stream.token_budget
    return int(max(steps * padded, 2 * config.corpus.vocab_size) / shape.tokens) + 1


def sample(manifest: Manifest) -> Rows:
    """The rows of some blocks of the training split."""
    reader = Reader(manifest, "train")
    spread = np.linspace(0, reader.index.blocks - 1, min(reader.index.blocks, BLOCKS))
    blocks = list(reader.index.read(spread.astype(np.int64)))
    return join(reader.schema, blocks, reader.blocks(blocks), reader.index.max_length)


def tokens(manifest: Manifest, rows: Rows) -> int:
    """All that are read or written of some rows."""
    told = [f.name for f in manifest.fields if f.tokenized or f.is_image]
    lists = [rows.columns[name] for name in told]
    return sum(int(column.lengths.sum()) for column in lists if isinstance(column, Ragged))


def operations(config: Config, manifest: Manifest, rows: Rows) -> float:
    """Of matrix products, for each token of an update: forward, and backward to all weights."""
    task = tasks.get(config.task.name)(config.task, config.model, manifest)
    model, counted, done = task.build(), 0, 0
    for batch, count in batches(config, manifest, rows):
        counter = FlopCounterMode(display=False)
        plain = torch.backends.mkldnn.flags(enabled=False)
        with warnings.catch_warnings(action="ignore"), plain, counter:  # of TF32 elsewhere
            task.loss(model, batch)[0].backward()
        counted, done = counted + count, done + counter.get_total_flops()
        model.zero_grad()
    return done / counted


def batches(config: Config, manifest: Manifest, rows: Rows) -> Iterator[tuple[Batch, int]]:
    """Single rows without padding, each with its tokens; of texts that go on a stretch."""
    if tasks.get(config.task.name).stateful:
        stream = config.stream.model_copy(update={"batch_rows": COUNTED})
        update = next(open_bptt(manifest, stream, 0).epoch(Position()))
        yield update.batches[0], update.tokens
        return
    lengths = rows.lengths
    for number in np.linspace(0, len(lengths) - 1, min(len(lengths), COUNTED)).astype(int):
        own = slice(number, number + 1)
        batch = collate(rows, own, size=1, length=int(lengths[number]))
        place = np.array([number])
        yield batch, tokens(manifest, rows.take(place, place))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
