"""Compare the two libraries that encode texts, on the texts of a JSONL file.

    python benchmarks/encoding.py --jsonl FILE [--text COLUMN] [--megabytes 30] [--rounds 3]

A tokenizer of 16,000 tokens is trained on the first --train texts. For each library, a fresh
process per round measures, in one thread:

  import, load  milliseconds to import the library, and to read the tokenizer
  memory        megabytes of resident memory that these add
  MB/s          texts per second of CPU time, in batches of 1024, the first time they are encoded
  grows         megabytes of resident memory that encoding adds
  one text      microseconds to encode one text of 1,000 characters, median and 99th percentile

The table has the median of the rounds. The ids of both are compared.
"""

import argparse
import gzip
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).parents[1]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.machine import cpu_name  # noqa: E402

LIBRARIES = ("tokenizers", "fastokens")
BATCH = 1024


def resident_mb() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(library: str, texts: list[str], content: str) -> dict[str, Any]:
    """Return the measurements of a library in this process."""
    before, start = resident_mb(), time.perf_counter()
    if library == "tokenizers":
        from tokenizers import Tokenizer
    else:
        import fastokens  # noqa: F401
    imported = time.perf_counter()
    if library == "tokenizers":
        parsed = Tokenizer.from_str(content)
    loaded = time.perf_counter()
    from pipeline.corpus.tokenization.backends import FastokensBackend, TokenizersBackend

    start_of_fast = time.perf_counter()
    backend: Any = TokenizersBackend(parsed) if library == "tokenizers" else None
    if backend is None:
        backend = FastokensBackend(content)
        loaded = imported + time.perf_counter() - start_of_fast
    memory = resident_mb()
    cpu, digest = 0.0, hashlib.sha256()
    for first in range(0, len(texts), BATCH):
        cpu_start = time.process_time()
        rows = backend.encode(texts[first : first + BATCH])
        cpu += time.process_time() - cpu_start
        digest.update(np.concatenate(rows).tobytes())
    grown = resident_mb() - memory
    latencies = []
    for text in islice((text for text in texts if len(text) >= 1000), 500):
        one = time.perf_counter()
        backend.encode([text[:1000]])
        latencies.append(1e6 * (time.perf_counter() - one))
    size = sum(len(text.encode()) for text in texts) / 1e6
    return {
        "import": 1e3 * (imported - start),
        "load": 1e3 * (loaded - imported),
        "memory": memory - before,
        "mb_per_s": size / cpu,
        "grows": grown,
        "median": statistics.median(latencies),
        "p99": float(np.percentile(latencies, 99)),
        "digest": digest.hexdigest(),
    }


def read_texts(path: str, column: str, megabytes: float) -> list[str]:
    """Return the first texts of a JSONL file, which may be compressed."""
    texts: list[str] = []
    size = 0
    with gzip.open(path, "rt") if path.endswith(".gz") else Path(path).open() as file:
        for line in file:
            texts.append(json.loads(line)[column])
            size += len(texts[-1].encode())
            if size >= megabytes * 1e6:
                break
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jsonl", required=True)
    parser.add_argument("--text", default="text")
    parser.add_argument("--megabytes", type=float, default=30)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    texts = read_texts(args.jsonl, args.text, args.megabytes)
    if args.child:
        library, path = args.child
        print(json.dumps(measure(library, texts, Path(path).read_text())))
        return
    from pipeline.corpus.settings import TokenizerSettings
    from pipeline.corpus.tokenization.tokenizer import train

    settings = TokenizerSettings(input=args.jsonl, vocab_size=16_000, replace={"<br />": " "})
    runs: dict[str, list[dict[str, Any]]] = {library: [] for library in LIBRARIES}
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(train(texts[: args.train], settings))
        file.flush()
        for _ in range(args.rounds):
            for library in LIBRARIES:
                command = [sys.executable, *sys.argv, "--child", library, file.name]
                output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
                runs[library].append(json.loads(output))
    print(f"{cpu_name()}, {len(texts):,} texts")
    print("| library | import | load | memory | MB/s | grows | one text | 99 % |")
    print("|---|---|---|---|---|---|---|---|")
    for library, results in runs.items():
        keys = ("import", "load", "memory", "mb_per_s", "grows", "median", "p99")
        values = [statistics.median(result[key] for result in results) for key in keys]
        print(f"| {library} | " + " | ".join(f"{value:.4g}" for value in values) + " |")
    digests = {result["digest"] for results in runs.values() for result in results}
    print("ids equal" if len(digests) == 1 else "ids DIFFER")


if __name__ == "__main__":
    main()
