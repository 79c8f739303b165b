"""How fast this pipeline trains, beside what people write by hand, in one run on one machine.

    python benchmarks/training.py [--steps 75] [--repeats 3]

The default corpus (16k BPE, cut at 400 tokens), embedding 128, 2-layer BiLSTM of 128 a direction.
Each contender runs in processes of its own, in turn, `--repeats` times; the figures are medians of
non-padding tokens per second, start-up not counted.

  pipeline   launch/train.py as a user runs it, tracked in MLflow, a process a core (or GPU): with
             about 64 rows a process in an update, and with about 64 rows an update
  (a)        the tutorial's loop: DataLoader, pad_sequence, pack_padded_sequence, nn.LSTM, fp32,
             batches of 64 rows
  (b)        64 rows of similar length padded, nn.LSTM, bf16, one process; torch's default threads
             and one thread, the better of the two counts
  (c)        the pipeline's model alone: forward and backward on ready batches of the shapes of
             either, as many processes, no loader, no optimizer, nothing between the processes
"""

import argparse
import datetime
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks import machine  # noqa: E402
from benchmarks.runs import prepare, train  # noqa: E402

SETTINGS = [
    "corpus.max_tokens=400", "corpus.vocab_size=16000", "corpus.shards=data/shards/benchmark",
    "stream.accumulation_steps=1",
    "model.dropout=0", "model.embedding_dropout=0",
]  # fmt: skip
ROWS = 64
TOKENS = 16384
"""Padded tokens of about 64 rows."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=75, help="updates of 64 rows a process [75]")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender [3]")
    parser.add_argument("--contender", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.contender:
        name, rank, world = args.contender
        print(CONTENDERS[name](args.steps, int(rank), int(world)))
        return

    prepare(SETTINGS[:3])
    import torch

    world = torch.cuda.device_count() or len(os.sched_getaffinity(0))
    runs: dict[str, Callable[[], float]] = {
        "pipeline, 64 rows a process": lambda: pipeline(args.steps, world, TOKENS * world),
        "pipeline, 64 rows an update": lambda: pipeline(args.steps * world, world, TOKENS),
        "(a) tutorial": lambda: alone("tutorial", max(args.steps // 10, 3)),
        "(b) bf16, default threads": lambda: alone("grouped", args.steps // 2),
        "(b) bf16, one thread": lambda: alone("grouped", args.steps // 2, threads=1),
        "(c) model alone, 64 rows a process": lambda: together("model", args.steps // 2, world),
        "(c) model alone, 64 rows together": lambda: together("shared", args.steps, world),
    }
    found: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(args.repeats):
        for name, run in runs.items():
            found[name].append(run())
            print(f"{repeat + 1}/{args.repeats} {name}: {found[name][-1]:,.0f}", file=sys.stderr)
    report(found, world)


def report(found: dict[str, list[float]], world: int) -> None:
    import torch

    median = {name: statistics.median(speeds) for name, speeds in found.items()}
    ours, shared = (speed for name, speed in median.items() if name.startswith("pipeline"))
    print(f"\n{world} process(es) on {machine.name()}; Python {platform.python_version()}, "
          f"torch {torch.__version__}; {datetime.date.today()}\n")  # fmt: skip
    print("| | tokens/s, median (least to most) | 64 rows a process | 64 rows an update |")
    print("|---|---|---|---|")
    for name, speeds in found.items():
        spread = f"{median[name]:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
        print(f"| {name} | {spread} | {ours / median[name]:.2f}x | {shared / median[name]:.2f}x |")


def pipeline(steps: int, world: int, budget: int) -> float:
    """By torchrun in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        return train(
            Path(folder), max(steps, 5), world, [*SETTINGS, f"stream.token_budget={budget}"]
        )


def alone(name: str, steps: int, threads: int = 0) -> float:
    return together(name, steps, 1, threads)


def together(name: str, steps: int, world: int, threads: int = 0) -> float:
    """Start a contender in `world` processes at once and add up their speeds."""
    if world > 1:
        threads = 1
    env = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    if not threads:
        env.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, __file__, "--steps", str(steps), "--contender", name]
    processes = [
        subprocess.Popen([*command, str(rank), str(world)], env=env, stdout=subprocess.PIPE)
        for rank in range(world)
    ]
    return sum(float(p.communicate()[0]) for p in processes)


def tutorial(steps: int, rank: int, world: int) -> float:
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_sequence
    from torch.utils.data import DataLoader

    tokens, labels, vocabulary = corpus()
    rows = [(torch.as_tensor(t), k) for t, k in zip(tokens, labels, strict=True)]

    class Tutorial(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(vocabulary, 128)
            self.lstm = nn.LSTM(128, 128, num_layers=2, bidirectional=True, batch_first=True)
            self.scores = nn.Linear(256, 2)

        def forward(self, x: Any, lengths: Any) -> Any:
            packed = pack_padded_sequence(
                self.embedding(x), lengths, batch_first=True, enforce_sorted=False
            )
            _, (h, _) = self.lstm(packed)
            return self.scores(torch.cat([h[-2], h[-1]], -1))

    def collate(batch: list[Any]) -> Any:
        texts, labels = zip(*batch, strict=True)
        lengths = torch.tensor([len(text) for text in texts])
        return pad_sequence(list(texts), batch_first=True), lengths, torch.tensor(labels)

    device = _device()
    model = Tutorial().to(device)
    optimizer = torch.optim.Adam(model.parameters())

    def batches() -> Iterator[tuple[int, Callable[[], None]]]:
        for x, lengths, y in DataLoader(rows, ROWS, shuffle=True, collate_fn=collate):

            def step(x: Any = x, lengths: Any = lengths, y: Any = y) -> None:
                loss = nn.functional.cross_entropy(model(x.to(device), lengths), y.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            yield int(lengths.sum()), step

    return speed(batches(), steps)


def grouped(steps: int, rank: int, world: int) -> float:
    import numpy as np
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pad_sequence

    tokens, labels, vocabulary = corpus()
    device = _device()
    embedding = nn.Embedding(vocabulary, 128).to(device)
    lstm = nn.LSTM(128, 128, num_layers=2, bidirectional=True).to(device)
    scores = nn.Linear(512, 2).to(device)
    parameters = [p for m in (embedding, lstm, scores) for p in m.parameters()]
    optimizer = torch.optim.Adam(parameters)
    draw = np.random.default_rng(0)
    by_length = np.argsort([len(row) for row in tokens], kind="stable")
    groups = np.array_split(by_length, len(by_length) // ROWS)
    draw.shuffle(groups)

    def batches() -> Iterator[tuple[int, Callable[[], None]]]:
        for group in groups:

            def step(group: Any = group) -> None:
                x = pad_sequence([torch.as_tensor(tokens[i]) for i in group])  # [T, B]
                y = torch.as_tensor([labels[i] for i in group])
                with torch.autocast(device.type, torch.bfloat16):
                    states = lstm(embedding(x.to(device)))[0]
                    pooled = torch.cat([states.amax(0), states.mean(0)], -1)
                    loss = nn.functional.cross_entropy(scores(pooled).float(), y.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            yield sum(len(tokens[i]) for i in group), step

    return speed(batches(), steps)


def model(steps: int, rank: int, world: int) -> float:
    return model_alone(steps, rank, world, TOKENS * world)


def shared(steps: int, rank: int, world: int) -> float:
    return model_alone(steps, rank, world, TOKENS)


def model_alone(steps: int, rank: int, world: int, budget: int) -> float:
    from pipeline import config
    from pipeline.corpus.dataset.manifest import open_dataset
    from pipeline.runtime.precision import choose
    from pipeline.runtime.process_group import use_one_core
    from pipeline.stream.opening import open_loader
    from pipeline.stream.plan import Position
    from pipeline.tasks.classification import Classification

    settings = config.load(None, [*SETTINGS, f"stream.token_budget={budget}"])
    manifest = open_dataset(settings.corpus.shards)
    loader = open_loader(manifest, settings.stream, rank=rank, world=world)
    task = Classification(settings.task, settings.model, manifest)
    device = _device()
    if device.type == "cpu":
        use_one_core()
    precision = choose("auto", device, settings.model, print)
    net = task.build().to(device)
    ready = [
        (int((b.lengths * b.weights).sum()), b.to(device))
        for update, _ in zip(loader.epoch(Position()), range(steps + 5), strict=False)
        for b in update.batches
    ]

    def batches() -> Iterator[tuple[int, Callable[[], None]]]:
        for tokens, batch in ready:

            def step(batch: Any = batch) -> None:
                with precision.autocast():
                    loss = task.loss(net, batch)[0] / ROWS
                loss.backward()
                net.zero_grad(set_to_none=True)

            yield tokens, step

    return speed(batches(), steps)


CONTENDERS = {"tutorial": tutorial, "grouped": grouped, "model": model, "shared": shared}


def speed(batches: Iterator[tuple[int, Callable[[], None]]], steps: int) -> float:
    """Tokens per second over `steps` steps after two to warm up."""
    import torch

    done, start = 0, 0.0
    for number, (tokens, step) in enumerate(batches):
        if number == 2:
            start, done = time.perf_counter(), 0
        step()
        done += tokens
        if number == steps + 1:
            break
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return done / (time.perf_counter() - start)


def corpus() -> tuple[list[Any], list[int], int]:
    """The rows of the prepared corpus in memory, and the size of the vocabulary."""
    import numpy as np

    from pipeline import config
    from pipeline.corpus.dataset.manifest import open_dataset
    from pipeline.stream.reader import Reader

    manifest = open_dataset(config.load(None, SETTINGS).corpus.shards)
    reader = Reader(manifest, "train")
    tokens: list[Any] = []
    labels: list[int] = []
    for block in reader.blocks(reader.index.read(np.arange(reader.index.blocks))):
        assert block is not None
        lists: Any = block.column("tokens")
        tokens += np.split(np.asarray(lists.values, np.int64), np.asarray(lists.offsets)[1:-1])
        labels += block.column("label").to_pylist()
    return tokens, labels, manifest.vocabularies["tokenizer"]


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
