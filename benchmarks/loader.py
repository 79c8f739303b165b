"""Compare the throughput of this project's data loader with other loaders on the same rows.

    python benchmarks/loader.py [--jsonl FILE --text COLUMN] [--rounds 3] [--json FILE]

Requires the packages in benchmarks/requirements.txt. The corpora are the default one
(configs/imdb.yaml) and optionally a JSONL file, both truncated to --max-tokens. This project
prepares them, and all systems get the same tokenized training rows. In a corpus without labels,
row i gets the label i % 2.

Each stage runs in a separate process that is pinned to one core and uses one torch thread; in each
round the systems take turns. All systems shuffle. The columns:

  converts    seconds to write rows from memory to the system's files
  disk / raw  size of these files, divided by two bytes per token
  tokens/s    non-padding tokens per second, delivered in padded int64 batches with lengths and
              labels: median (min to max) of all epochs of all rounds, without one warm-up
              epoch per process
  ratio       speed relative to the fastest other system (in-memory arrays do not count as one)
  not padding share of the delivered tokens that are not padding
  resumes     milliseconds from a constructed loader to the first batch after 90 % of an epoch, in a
              fresh process; "exact" if this batch is bitwise identical to the batch that an
              uninterrupted epoch yields there
  memory      peak resident memory (VmHWM) minus the resident memory after imports (VmRSS), in the
              process that delivers the epochs; both include pages of memory-mapped files
"""

import argparse
import datetime
import json
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.loaders import ARRAYS, HEADRACE, OTHERS, SYSTEMS  # noqa: E402

PACKAGES = {
    "webdataset": "webdataset", "mosaicml": "mosaicml-streaming", "litdata": "litdata",
    "huggingface": "datasets",
}  # fmt: skip
Results = dict[str, dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jsonl", type=Path, help="a second corpus, as .jsonl or .jsonl.gz")
    parser.add_argument("--text", default="text", help="text column of the JSONL file [text]")
    parser.add_argument("--max-tokens", type=int, default=400, help="maximum tokens per row [400]")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each system [3]")
    parser.add_argument("--json", type=Path, help="also write the measurements to this file")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds={args.rounds}: nothing would be measured; use 1 or more")

    output: dict[str, Any] = {"machine": machine(), "command": shlex.join(["python", *sys.argv])}
    print(f"{output['machine']}\n\n    {output['command']}")
    corpora: dict[str, Callable[[Path], Any]] = {
        "film reviews": lambda folder: film_reviews(folder, args)
    }
    if args.jsonl:
        corpora[args.jsonl.name] = lambda folder: jsonl(folder, args)
    for name, prepare_rows in corpora.items():
        with tempfile.TemporaryDirectory() as folder:
            rows = prepare_rows(Path(folder))
            results = measure(rows, Path(folder), args.rounds)
        output[name] = results
        report(name, results)
    if args.json:
        args.json.write_text(json.dumps(output, indent=1) + "\n")


def film_reviews(folder: Path, args: argparse.Namespace) -> Any:
    """Prepare the default corpus and return its training rows."""
    from pipeline import config, tasks
    from pipeline.corpus.prepare.prepare import prepare

    overrides = [
        f"corpus.max_tokens={args.max_tokens}", "corpus.vocab_size=16000",
        f"corpus.shards={folder}/prepared",
    ]  # fmt: skip
    settings = config.load(None, overrides)
    fields = tasks.fields(settings.task.name, settings.corpus)
    return training_rows(prepare(settings.corpus, fields))


def jsonl(folder: Path, args: argparse.Namespace) -> Any:
    """Prepare the JSONL file and return its training rows."""
    from pipeline.corpus.field_spec import FieldSpec
    from pipeline.corpus.prepare.prepare import prepare
    from pipeline.corpus.settings import TextSettings

    settings = TextSettings(
        input=str(args.jsonl.resolve()),
        shards=str(folder / "prepared"),
        text=args.text,
        max_tokens=args.max_tokens,
        validation=0.01,
    )
    fields = (FieldSpec("tokens", args.text, "text"),)
    return training_rows(prepare(settings, fields))


def training_rows(manifest: Any) -> Any:
    """Read the rows of the training split from its shards with the webdataset package."""
    import numpy as np
    import pyarrow as pa
    import webdataset as wds

    from benchmarks.loaders.common import Rows

    shards = [str(manifest.shard("train", n)) for n in range(len(manifest.splits["train"].shards))]
    tokens: list[Any] = []
    labels: list[Any] = []
    for member in wds.WebDataset(shards, shardshuffle=False):
        block = pa.ipc.open_stream(member["arrow"]).read_next_batch()
        tokens += (row.values.to_numpy() for row in block.column("tokens"))
        if "label" in block.schema.names:
            labels += block.column("label").to_pylist()
    return Rows(tokens, np.array(labels or np.arange(len(tokens)) % 2))


def measure(rows: Any, folder: Path, rounds: int) -> Results:
    """Run all stages of all systems in turn; return each system's results, one per round.

    Exits if a system does not deliver all rows and tokens in an epoch.
    """
    tokens = sum(map(len, rows.tokens))
    results: Results = {system: {"raw_bytes": 2 * tokens} for system in SYSTEMS}
    rows.save(folder / "rows")
    for system in SYSTEMS:
        (folder / system).mkdir()
        (folder / system / "rows").symlink_to(folder / "rows")
    for number in range(rounds):
        for stage in ("convert", "epochs", "save", "resume"):
            for system in SYSTEMS:
                print(f"round {number + 1}/{rounds} {stage} {system}", file=sys.stderr)
                if stage == "convert" and number:
                    shutil.rmtree(folder / system / "data")
                result = run(system, stage, folder / system)
                results[system].setdefault(stage, []).append(result)
                if stage == "epochs" and (result["rows"], result["tokens"]) != (
                    len(rows.tokens),
                    tokens,
                ):
                    raise SystemExit(
                        f"error: {system} delivered {result['rows']:,} rows with "
                        f"{result['tokens']:,} tokens in an epoch instead of "
                        f"{len(rows.tokens):,} rows with {tokens:,} tokens; its measurements "
                        "would not be comparable"
                    )
    return results


def run(system: str, stage: str, folder: Path) -> Any:
    """Run one stage of one system in a subprocess; return the result that it prints last."""
    process = subprocess.run(
        [sys.executable, "-m", "benchmarks.loaders.process", system, stage, str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    if process.returncode:
        raise SystemExit(f"error: {system} failed at stage {stage}:\n{process.stderr}")
    return json.loads(process.stdout.splitlines()[-1])


def report(name: str, results: Results) -> None:
    """Print the table of one corpus."""
    speeds = {
        system: [speed for epochs in stages["epochs"] for speed in epochs["tokens_per_s"]]
        for system, stages in results.items()
    }
    fastest = max(statistics.median(speeds[system]) for system in OTHERS)
    rows, tokens = (results[HEADRACE]["epochs"][0][key] for key in ("rows", "tokens"))
    print(f"\n### {name}: {rows:,} rows, {tokens:,} tokens\n")
    print(
        "| | settings | converts | disk / raw | tokens/s | ratio | not padding | resumes | memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for system, stages in results.items():
        epochs, speed = stages["epochs"], statistics.median(speeds[system])
        lowest, highest = millions(min(speeds[system])), millions(max(speeds[system]))
        resumed = f"{1000 * median(stages['resume'], 'seconds'):.0f} ms, {exactness(stages)}"
        cells = [
            title(system),
            epochs[0]["settings"],
            f"{median(stages['convert'], 'seconds'):.2f} s",
            f"{stages['convert'][0]['bytes'] / stages['raw_bytes']:.3f}",
            f"{millions(speed)} ({lowest} to {highest})",
            f"{speed / fastest:.2f}x",
            f"{median(epochs, 'not_padding'):.3f}",
            f"{resumed}: {epochs[0]['resuming']}",
            f"{median(epochs, 'peak_bytes') / 1e6:.0f} MB",
        ]
        if system == ARRAYS:
            cells[2] = cells[3] = "-"
        print(f"| {' | '.join(cells)} |")


def title(system: str) -> str:
    """Return a system's package name and version."""
    return f"{PACKAGES[system]} {version(PACKAGES[system])}" if system in PACKAGES else system


def median(rounds: list[Any], key: str) -> float:
    return statistics.median(result[key] for result in rounds)


def millions(speed: float) -> str:
    return f"{speed / 1e6:.1f} M"


def exactness(stages: Any) -> str:
    """Return "exact" if the batch after resuming was the expected one in every round."""
    pairs = zip(stages["save"], stages["resume"], strict=True)
    return "exact" if all(a["next"] == b["next"] for a, b in pairs) else "not exact"


def machine() -> str:
    """Return the CPU's name, the versions of the main packages and the date."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return (
        f"One core of {cpu}; Python {platform.python_version()}, torch {version('torch')}, "
        f"numpy {version('numpy')}; {datetime.date.today()}"
    )


if __name__ == "__main__":
    main()
