"""Compare this pipeline's training speed with hand-written training loops on the same machine.

    python benchmarks/training.py [--steps 75] [--repeats 3]

All of them train on the default corpus (16k BPE, rows cut at 400 tokens), with an embedding of 128
and a 2-layer BiLSTM with 128 hidden units per direction. They run in separate processes and take
turns, `--repeats` times. The table shows median non-padding tokens per second, without start-up.

  pipeline   launch/train.py as a user runs it: tracked in MLflow, one process per core (or GPU),
             with about 64 rows per process in an update, and with about 64 rows per update
  (a)        the loop of PyTorch tutorials: DataLoader, pad_sequence, pack_padded_sequence, nn.LSTM,
             fp32, batches of 64 rows
  (b)        nn.LSTM on padded batches of 64 rows of similar length, bf16, one process; with torch's
             default number of threads and with one thread, of which the faster one counts
  (c)        only the pipeline's model: forward and backward on prepared batches of both sizes, in
             the same number of processes, without loader, optimizer and communication
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
from typing import Any, cast

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
"""Token budget that holds about 64 rows with padding."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=75, help="updates of 64 rows per process [75]")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each training loop [3]")
    parser.add_argument("--loop", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        name, rank, world = args.loop
        print(LOOPS[name](args.steps, int(rank), int(world)))
        return

    prepare(SETTINGS[:3])
    import torch

    world = torch.cuda.device_count() or len(os.sched_getaffinity(0))
    runs: dict[str, Callable[[], float]] = {
        "pipeline, 64 rows per process": lambda: pipeline(args.steps, world, TOKENS * world),
        "pipeline, 64 rows per update": lambda: pipeline(args.steps * world, world, TOKENS),
        "(a) tutorial": lambda: run_single("tutorial", max(args.steps // 10, 3)),
        "(b) bf16, default threads": lambda: run_single("grouped", args.steps // 2),
        "(b) bf16, one thread": lambda: run_single("grouped", args.steps // 2, threads=1),
        "(c) model alone, 64 rows per process": lambda: run_parallel(
            "model", args.steps // 2, world
        ),
        "(c) model alone, 64 rows per update": lambda: run_parallel("shared", args.steps, world),
    }
    speeds: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(args.repeats):
        for name, run in runs.items():
            speeds[name].append(run())
            print(f"{repeat + 1}/{args.repeats} {name}: {speeds[name][-1]:,.0f}", file=sys.stderr)
    report(speeds, world)


def report(speeds_by_name: dict[str, list[float]], world: int) -> None:
    """Print the table, with the pipeline's speedup over each loop in the two right columns."""
    import torch

    median = {name: statistics.median(speeds) for name, speeds in speeds_by_name.items()}
    per_process, per_update = (
        speed for name, speed in median.items() if name.startswith("pipeline")
    )
    print(f"\n{world} process(es) on {machine.name()}; Python {platform.python_version()}, "
          f"torch {torch.__version__}; {datetime.date.today()}\n")  # fmt: skip
    print("| | tokens/s, median (min to max) | 64 rows per process | 64 rows per update |")
    print("|---|---|---|---|")
    for name, speeds in speeds_by_name.items():
        spread = f"{median[name]:,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
        ratios = f"{per_process / median[name]:.2f}x | {per_update / median[name]:.2f}x"
        print(f"| {name} | {spread} | {ratios} |")


def pipeline(steps: int, world: int, budget: int) -> float:
    """Train with launch/train.py in a temporary folder and return the tokens per second."""
    with tempfile.TemporaryDirectory() as folder:
        return train(
            Path(folder), max(steps, 5), world, [*SETTINGS, f"stream.token_budget={budget}"]
        )


def run_single(name: str, steps: int, threads: int = 0) -> float:
    """Run a training loop in one process; 0 threads: torch's default."""
    return run_parallel(name, steps, 1, threads)


def run_parallel(name: str, steps: int, world: int, threads: int = 0) -> float:
    """Run a training loop in `world` simultaneous processes and return their summed speed."""
    if world > 1:
        threads = 1
    env = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
    if not threads:
        env.pop("OMP_NUM_THREADS", None)
    command = [sys.executable, __file__, "--steps", str(steps), "--loop", name]
    processes = [
        subprocess.Popen([*command, str(rank), str(world)], env=env, stdout=subprocess.PIPE)
        for rank in range(world)
    ]
    return sum(float(p.communicate()[0]) for p in processes)


def tutorial(steps: int, rank: int, world: int) -> float:
    """Loop (a): packed sequences in random order."""
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
        dataset: Any = rows  # a list works as a map-style dataset
        for x, lengths, y in DataLoader(dataset, ROWS, shuffle=True, collate_fn=collate):

            def step(x: Any = x, lengths: Any = lengths, y: Any = y) -> None:
                loss = nn.functional.cross_entropy(model(x.to(device), lengths), y.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            yield int(lengths.sum()), step

    return speed(batches(), steps)


def grouped(steps: int, rank: int, world: int) -> float:
    """Loop (b): padded batches of rows with similar length."""
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
    rng = np.random.default_rng(0)
    by_length = np.argsort([len(row) for row in tokens], kind="stable")
    groups = np.array_split(by_length, len(by_length) // ROWS)
    rng.shuffle(groups)

    def batches() -> Iterator[tuple[int, Callable[[], None]]]:
        for group in groups:

            def step(group: Any = group) -> None:
                x = pad_sequence([torch.as_tensor(tokens[i]) for i in group])  # [T, B]
                y = torch.as_tensor([labels[i] for i in group])
                with torch.autocast(device.type, torch.bfloat16):
                    states = lstm(embedding(x.to(device)))[0]  # [T, B, 256]
                    pooled = torch.cat([states.amax(0), states.mean(0)], -1)  # [B, 512]
                    loss = nn.functional.cross_entropy(scores(pooled).float(), y.to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()

            yield sum(len(tokens[i]) for i in group), step

    return speed(batches(), steps)


def model(steps: int, rank: int, world: int) -> float:
    """Loop (c) with about 64 rows per process."""
    return run_model(steps, rank, world, TOKENS * world)


def shared(steps: int, rank: int, world: int) -> float:
    """Loop (c) with about 64 rows over all processes."""
    return run_model(steps, rank, world, TOKENS)


def run_model(steps: int, rank: int, world: int, budget: int) -> float:
    """Run the pipeline's model forward and backward on this rank's prepared batches."""
    from pipeline import config, tasks
    from pipeline.corpus.dataset.manifest import open_dataset
    from pipeline.runtime.device import use_one_core
    from pipeline.runtime.precision import choose
    from pipeline.stream.opening import open_loader
    from pipeline.stream.plan import Position

    settings = config.load(None, [*SETTINGS, f"stream.token_budget={budget}"])
    manifest = open_dataset(settings.corpus.shards)
    loader = open_loader(manifest, settings.stream, rank=rank, world=world)
    task = tasks.get("classification")(settings.task, settings.model, manifest)
    device = _device()
    if device.type == "cpu":
        use_one_core()
    precision = choose("auto", device, settings.model)
    net = task.build().to(device)
    prepared = [
        (int((b.lengths * b.weights).sum()), b.to(device))
        for update, _ in zip(loader.epoch(Position()), range(steps + 5), strict=False)
        for b in update.batches
    ]

    def batches() -> Iterator[tuple[int, Callable[[], None]]]:
        for tokens, batch in prepared:

            def step(batch: Any = batch) -> None:
                with precision.autocast():
                    loss = task.loss(net, batch)[0] / ROWS
                loss.backward()
                net.zero_grad(set_to_none=True)

            yield tokens, step

    return speed(batches(), steps)


LOOPS = {"tutorial": tutorial, "grouped": grouped, "model": model, "shared": shared}


def speed(batches: Iterator[tuple[int, Callable[[], None]]], steps: int) -> float:
    """Return the tokens per second over `steps` steps, after two warm-up steps."""
    import torch

    total, start = 0, 0.0
    for number, (tokens, step) in enumerate(batches):
        if number == 2:
            start, total = time.perf_counter(), 0
        step()
        total += tokens
        if number == steps + 1:
            break
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return total / (time.perf_counter() - start)


def corpus() -> tuple[list[Any], list[int], int]:
    """Load the prepared training rows; return token ids, labels and the vocabulary size."""
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
        labels += cast(list[int], block.column("label").to_pylist())
    return tokens, labels, manifest.vocabularies["tokenizer"]


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


if __name__ == "__main__":
    main()
