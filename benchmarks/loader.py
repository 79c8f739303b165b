"""How fast this project's loader delivers training batches, beside others, on the same rows.

    python benchmarks/loader.py [--jsonl FILE --text COLUMN] [--rounds 3] [--json FILE]

Wants the packages of benchmarks/requirements.txt. Corpora: the default one (configs/imdb.yaml) and
any JSONL file, cut at --max-tokens; both prepared by this project, and their tokenized training
rows given to all systems alike. A corpus without labels gets the parity of the row's number.

Every stage runs in a process of its own, pinned to one core, torch on one thread; in each round
the systems take turns. Shuffling is on everywhere. The columns:

  converts    seconds from rows in memory to the system's files
  disk / raw  bytes of these files over two bytes a token
  tokens/s    non-padding tokens delivered in padded int64 batches with lengths and labels: median
              (least to most) of all epochs of all rounds, one to warm up in each process left out
  ratio       to the fastest other system (arrays in memory are none)
  not padding share of the delivered tokens
  resumes     seconds from a made loader to the first batch after 90 % of an epoch, in a fresh
              process; "exact" if this batch is bit for bit the one that would have come
  memory      greatest resident memory (VmHWM) less that after imports (VmRSS) of the process that
              delivers the epochs; pages of files that are mapped into memory count in both
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

from loaders import ARRAYS, HEADRACE, OTHERS, SYSTEMS

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

PACKAGES = {
    "webdataset": "webdataset", "mosaicml": "mosaicml-streaming", "litdata": "litdata",
    "huggingface": "datasets",
}  # fmt: skip
COLUMNS = (
    "settings", "converts", "disk / raw", "tokens/s", "ratio", "not padding", "resumes", "memory",
)  # fmt: skip
Results = dict[str, dict[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jsonl", type=Path, help="another corpus (also .gz)")
    parser.add_argument("--text", default="text", help="its column of texts [text]")
    parser.add_argument("--max-tokens", type=int, default=400, help="where it is cut [400]")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each system [3]")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    args = parser.parse_args()
    if args.rounds < 1:
        parser.error(f"--rounds={args.rounds}: nothing would be measured; give 1 or more")

    found: dict[str, Any] = {"machine": machine(), "command": shlex.join(["python", *sys.argv])}
    print(f"{found['machine']}\n\n    {found['command']}")
    corpora: dict[str, Callable[[Path], Any]] = {
        "film reviews": lambda folder: film_reviews(folder, args)
    }
    if args.jsonl:
        corpora[args.jsonl.name] = lambda folder: jsonl(folder, args)
    for name, rows_of in corpora.items():
        with tempfile.TemporaryDirectory() as folder:
            rows = rows_of(Path(folder))
            measured = measure(rows, Path(folder), args.rounds)
        found[name] = measured
        report(name, measured)
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n")


def film_reviews(folder: Path, args: argparse.Namespace) -> Any:
    from pipeline import config, tasks
    from pipeline.corpus.prepare.prepare import prepare

    cut = [f"corpus.max_tokens={args.max_tokens}", "corpus.vocab_size=16000"]
    cut.append(f"corpus.shards={folder}/prepared")
    settings = config.load(None, cut)
    fields = tasks.get(settings.task.name).fields(settings.corpus)
    return training_rows(prepare(settings.corpus, fields, quietly))


def jsonl(folder: Path, args: argparse.Namespace) -> Any:
    from pipeline.corpus.field_spec import FieldSpec
    from pipeline.corpus.prepare.prepare import prepare
    from pipeline.corpus.settings import CorpusSettings

    settings = CorpusSettings(
        input=str(args.jsonl.resolve()),
        shards=str(folder / "prepared"),
        text=args.text,
        max_tokens=args.max_tokens,
        validation=0.01,
    )
    return training_rows(prepare(settings, (FieldSpec("tokens", args.text, "text"),), quietly))


def training_rows(manifest: Any) -> Any:
    """The rows of the training split, out of its shards as plain webdataset reads them."""
    import numpy as np
    import pyarrow as pa
    import webdataset as wds
    from loaders.common import Rows

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
    """All stages of all systems, in turn; the figures of every round by system."""
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
                figures = run(system, stage, folder / system)
                results[system].setdefault(stage, []).append(figures)
                if stage == "epochs" and (figures["rows"], figures["tokens"]) != (
                    len(rows.tokens),
                    tokens,
                ):
                    raise SystemExit(
                        f"error: {system} delivered {figures['rows']:,} rows of "
                        f"{figures['tokens']:,} tokens in an epoch, not {len(rows.tokens):,} of "
                        f"{tokens:,}; its figures would not be comparable"
                    )
    return results


def run(system: str, stage: str, folder: Path) -> Any:
    """Start a contender; its figures are the last line it prints."""
    paths = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "benchmarks")])
    done = subprocess.run(
        [sys.executable, "-m", "loaders.process", system, stage, str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"error: {system} failed at {stage}:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def report(name: str, results: Results) -> None:
    speeds = {
        system: [speed for epochs in found["epochs"] for speed in epochs["tokens_per_s"]]
        for system, found in results.items()
    }
    fastest = max(statistics.median(speeds[system]) for system in OTHERS)
    rows, tokens = (results[HEADRACE]["epochs"][0][key] for key in ("rows", "tokens"))
    print(f"\n### {name}: {rows:,} rows, {tokens:,} tokens\n")
    print(
        "| | settings | converts | disk / raw | tokens/s | ratio | not padding | resumes | memory |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for system, found in results.items():
        epochs, speed = found["epochs"], statistics.median(speeds[system])
        least, most = millions(min(speeds[system])), millions(max(speeds[system]))
        resumed = f"{1000 * middle(found['resume'], 'seconds'):.0f} ms, {exactness(found)}"
        cells = [
            title(system),
            epochs[0]["settings"],
            f"{middle(found['convert'], 'seconds'):.2f} s",
            f"{found['convert'][0]['bytes'] / found['raw_bytes']:.3f}",
            f"{millions(speed)} ({least} to {most})",
            f"{speed / fastest:.2f}x",
            f"{middle(epochs, 'not_padding'):.3f}",
            f"{resumed}: {epochs[0]['resuming']}",
            f"{middle(epochs, 'peak_bytes') / 1e6:.0f} MB",
        ]
        if system == ARRAYS:
            cells[2] = cells[3] = "-"
        print(f"| {' | '.join(cells)} |")


def title(system: str) -> str:
    return f"{PACKAGES[system]} {version(PACKAGES[system])}" if system in PACKAGES else system


def middle(rounds: list[Any], key: str) -> float:
    return statistics.median(figures[key] for figures in rounds)


def millions(speed: float) -> str:
    return f"{speed / 1e6:.1f} M"


def exactness(found: Any) -> str:
    """Whether the batch after resuming was the expected one, in every round."""
    pairs = zip(found["save"], found["resume"], strict=True)
    return "exact" if all(a["next"] == b["next"] for a, b in pairs) else "not exact"


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return (
        f"One core of {cpu}; Python {platform.python_version()}, torch {version('torch')}, "
        f"numpy {version('numpy')}; {datetime.date.today()}"
    )


def quietly(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    main()
