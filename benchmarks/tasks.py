"""Measure how fast each task trains, and how close that is to the machine's arithmetic limit.

    python benchmarks/tasks.py [CONFIG ...] [--made] [key=value ...]
    python benchmarks/tasks.py gnmt --made --processes 1      # on one GPU

Each selected config is trained `--repeats` times by launch/train.py as a user runs it: tracked in
MLflow, with one process per core (or GPU). Overrides apply to all configs. --made trains on
synthetic corpora: rows of random words with the lengths and vocabulary size of the real corpora.

  tokens/s    non-padding tokens per second without start-up, median (min to max): input
              tokens (words, subwords, rows of pixels) and, in translation and captioning, target
              tokens
  per token   floating-point operations of the matrix products and convolutions in an update,
              forward and backward, divided by the number of these tokens. Torch's FLOP counter
              counts them on single rows, so without padding, and on layers that consist of plain
              matrix products (model.native=false, no oneDNN)
  limit       achieved share of the arithmetic limit: tokens/s times operations per token, divided
              by the rate at which the same number of processes multiply square matrices (1024 on a
              CPU, 8192 on a GPU) in the run's precision. The rate is measured after each run; the
              table shows the median share
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
from pipeline.stream.block_rows import concatenate_blocks  # noqa: E402
from pipeline.stream.bptt import open_bptt  # noqa: E402
from pipeline.stream.plan import Position  # noqa: E402
from pipeline.stream.reader import Reader  # noqa: E402
from pipeline.stream.rows import Ragged, Rows  # noqa: E402

SAMPLE_BLOCKS = 8
"""Evenly spaced blocks of a dataset from which target tokens per input token are estimated."""
FLOP_ROWS = 16
"""Rows of these blocks on which operations are counted."""


@dataclass(frozen=True)
class Plan:
    """Number of updates to train a config for, and the shape of its corpus."""

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
"""Configs that can be measured.

The shapes were measured on the real corpora, except for gnmt: WMT16 is known to have about 26 words
per sentence, which makes about 30 subwords with a vocabulary of 32,000.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--made", action="store_true", help="train on synthetic corpora")
    parser.add_argument("--steps", type=int, help="updates per run, at least 5 [by config]")
    parser.add_argument("--repeats", type=int, default=3, help="runs per config [3]")
    parser.add_argument("--processes", type=int, default=torch.cuda.device_count() or _cores(),
                        help="processes per run [one per GPU or core]")  # fmt: skip
    parser.add_argument("arguments", nargs="*", metavar="CONFIG or key=value")
    args = parser.parse_intermixed_args()
    overrides = [argument for argument in args.arguments if "=" in argument]
    names = [argument for argument in args.arguments if "=" not in argument] or list(PLANS)
    if unknown := [name for name in names if name not in PLANS]:
        parser.error(f"{unknown[0]}: not a config that this benchmark measures; "
                     f"use {', '.join(PLANS)}")  # fmt: skip
    if args.steps is not None and args.steps < 5:
        parser.error(
            f"--steps {args.steps}: too few, as the first fifth is start-up; use 5 or more"
        )
    corpora = "synthetic corpora" if args.made else "real corpora"
    print(f"{args.processes} process(es) on {machine.name()}; {corpora}; "
          f"Python {platform.python_version()}, torch {torch.__version__}; "
          f"{datetime.date.today()}\n")  # fmt: skip
    print("| config | precision | tokens/s, median (min to max) | per token | limit |")
    print("|---|---|---|---|---|")
    for name in names:
        steps = args.steps or PLANS[name].steps
        print(measure(name, overrides, steps, args.processes, args.repeats, synthetic=args.made))


def measure(
    name: str, overrides: list[str], steps: int, processes: int, repeats: int, *, synthetic: bool
) -> str:
    """Train a config `repeats` times and return its line of the table."""
    path = REPOSITORY / "configs" / f"{name}.yaml"
    with tempfile.TemporaryDirectory() as folder:
        if synthetic:
            config = config_file.load(path, overrides)
            shape = PLANS[name].shape
            rows = rows_needed(config, shape, steps)
            overrides = [*made.write(config, shape, Path(folder, "made"), rows), *overrides]
        runs.prepare(overrides, path)
        speeds, limits = [], []
        for number in range(repeats):
            run_folder = Path(folder, str(number))
            run_folder.mkdir()
            speeds.append(runs.train(run_folder, steps, processes, overrides, path))
            latest = run_folder / "run" / "checkpoints" / "latest"
            precision = checkpoint.precision_of(latest.resolve())
            limits.append(machine.limit(precision, processes))
        config = config_file.load(path, [*overrides, "model.native=false"])
        manifest = open_dataset(config.corpus.shards)
        rows_sample = sample_rows(manifest)
        input_tokens = int(rows_sample.lengths.sum())
        # runs count input tokens only: add the target tokens
        tokens_per_input = count_tokens(manifest, rows_sample) / input_tokens
        speeds = [speed * tokens_per_input for speed in speeds]
        per_token = operations_per_token(config, manifest, rows_sample)
    shares = [per_token * speed / limit for speed, limit in zip(speeds, limits, strict=True)]
    speed, share = statistics.median(speeds), statistics.median(shares)
    spread = f"{speed:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
    return f"| {name} | {precision} | {spread} | {per_token / 1e6:,.1f}M | {share:.1%} |"


def rows_needed(config: Config, shape: Shape, steps: int) -> int:
    """Return enough rows for `steps` updates and for every word of the vocabulary to occur."""
    stream = config.stream
    padded = stream.batch_rows * stream.bptt_length if stream.batch_rows else stream.token_budget
    return int(max(steps * padded, 2 * getattr(config.corpus, "vocab_size", 0)) / shape.tokens) + 1


def sample_rows(manifest: Manifest) -> Rows:
    """Read evenly spaced blocks of the training split."""
    reader = Reader(manifest, "train")
    numbers = np.linspace(0, reader.index.blocks - 1, min(reader.index.blocks, SAMPLE_BLOCKS))
    blocks = list(reader.index.read(numbers.astype(np.int64)))
    return concatenate_blocks(reader.schema, blocks, reader.blocks(blocks), reader.index.max_length)


def count_tokens(manifest: Manifest, rows: Rows) -> int:
    """Count the input and target tokens of rows; each time step of an image counts as one."""
    names = [
        field.name
        for field in manifest.fields
        if field.kind_class.tokenized or field.kind_class.is_image
    ]
    columns = [rows.columns[name] for name in names]
    return sum(int(column.lengths.sum()) for column in columns if isinstance(column, Ragged))


def operations_per_token(
    config: Config, manifest: Manifest, rows: Rows, on: torch.device | None = None
) -> float:
    """Return the matrix-product operations per token, forward and backward to all weights.

    `config` must have model.native=false: only plain matrix products can be counted. The model
    runs on the CPU, or on another device.
    """
    on = on or torch.device("cpu")
    task = tasks.get(config.task.name)(config.task, config.model, manifest)
    model, tokens, operations = task.build().to(on), 0, 0
    for batch, batch_tokens in batches(config, manifest, rows):
        counter = FlopCounterMode(display=False)
        no_onednn = torch.backends.mkldnn.flags(enabled=False)
        no_cudnn = torch.backends.cudnn.flags(enabled=False)
        # hides a warning about TF32, which a CPU does not have
        with warnings.catch_warnings(action="ignore"), no_onednn, no_cudnn, counter:
            task.loss(model, batch.to(on))[0].backward()
        tokens, operations = tokens + batch_tokens, operations + counter.get_total_flops()
        model.zero_grad()
    return operations / tokens


def batches(config: Config, manifest: Manifest, rows: Rows) -> Iterator[tuple[Batch, int]]:
    """Yield batches of one row without padding, each with its number of tokens.

    For a stateful task, yield one truncated BPTT segment of several rows instead.
    """
    if tasks.get(config.task.name).stateful:
        stream = config.stream.model_copy(update={"batch_rows": FLOP_ROWS})
        update = next(open_bptt(manifest, stream, 0).epoch(Position()))
        yield update.batches[0], update.tokens
        return
    lengths = rows.lengths
    for number in np.linspace(0, len(lengths) - 1, min(len(lengths), FLOP_ROWS)).astype(int):
        batch = collate(rows, slice(number, number + 1), size=1, length=int(lengths[number]))
        index = np.array([number])
        yield batch, count_tokens(manifest, rows.take(index, index))


def _cores() -> int:
    return len(os.sched_getaffinity(0))


if __name__ == "__main__":
    main()
