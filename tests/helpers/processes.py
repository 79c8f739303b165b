"""Run commands in this process or in subprocesses, and read the results of training runs."""

import importlib
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.common import exit_status

REPOSITORY = Path(__file__).parents[2]
CRASH = Path(__file__).parent / "crash.py"


def command(
    *overrides: str, nproc: int = 1, crash: tuple[str, int] | None = None, restarts: int = 0
) -> list[str]:
    """Return the command that trains with `nproc` processes.

    `crash` is a (point, step) at which `crash.py` kills the run; `restarts` is torchrun's maximum.
    """
    script = [str(REPOSITORY / "launch" / "train.py")]
    if crash:
        script = [str(CRASH), crash[0], str(crash[1])]
    if nproc == 1 and not restarts:
        return [sys.executable, *script, *overrides]
    return torchrun(*script, *overrides, nproc=nproc, restarts=restarts)


def torchrun(*script: str, nproc: int, restarts: int = 0) -> list[str]:
    """Return the torchrun command for a script. torchrun itself chooses a free port."""
    return [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={nproc}"),
        *("--standalone", "--local-addr=localhost"),
        *(f"--max-restarts={restarts}", "--monitor-interval=0.1"),
        *script,
    ]


def start(
    arguments: list[str], cwd: Path = REPOSITORY, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command with one OpenMP thread per process, and more environment variables."""
    defaults = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    env = {**os.environ, **defaults, **(variables or {})}
    return subprocess.Popen(
        arguments, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str, str]:
    """Wait for a process; return its exit status, stdout and stderr.

    Kills the process and raises if it takes longer than `timeout` seconds.
    """
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def run(*overrides: str, **options: Any) -> tuple[int, str, str]:
    """Train with the options of `command`; return the exit status, stdout and stderr."""
    return finish(start(command(*overrides, **options)))


def launch(script: str, *arguments: str, text: str = "") -> tuple[int, str, str]:
    """Run a script of launch/ with `text` as stdin; return the exit status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, REPOSITORY / "launch" / script, *arguments],
        input=text, text=True, capture_output=True, timeout=120,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def call(name: str, *arguments: str, text: str = "") -> tuple[int, str, str]:
    """Run a `headrace` command in this process, which saves the start-up of another process.

    `text` is its stdin. Returns the exit status, stdout and stderr.
    """
    module = importlib.import_module(f"pipeline.cli.{name}")
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        status = exit_status(partial(module.main, arguments))
    return status, out.getvalue(), err.getvalue()


def was_killed(status: int, err: str) -> bool:
    """Return whether SIGKILL ended a process, or a worker of torchrun, by its status and stderr."""
    return status == -signal.SIGKILL or (status != 0 and "Signal 9 (SIGKILL)" in err)


def error_lines(err: str) -> list[str]:
    """Return the lines of a command's stderr that report an error."""
    return [line for line in err.splitlines() if line.startswith("error:")]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Poll a condition; fail if it is still false after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"the condition was still false after {seconds} s"
        time.sleep(0.05)


def metrics(folder: Path) -> list[dict[str, float]]:
    """Return the complete lines of a run's metrics.jsonl."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def last_with(key: str, folder: Path) -> dict[str, float]:
    """Return the last line of a run's metrics.jsonl that has a metric."""
    return [line for line in metrics(folder) if key in line][-1]


def losses(folder: Path) -> dict[int, float]:
    """Return the training loss by step."""
    return {
        int(line["step"]): line["train/loss"] for line in metrics(folder) if "train/loss" in line
    }


def reproducible_metrics(folder: Path) -> list[dict[str, float]]:
    """Return all metrics except those on time, memory and other performance counters."""
    return [
        {k: v for k, v in line.items() if k != "time" and not k.startswith("perf/")}
        for line in metrics(folder)
    ]


def weights(folder: Path) -> bytes:
    """Return the weights file of a run's latest checkpoint."""
    return (folder / "checkpoints" / "latest" / "model.safetensors").read_bytes()


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    os.kill(process.pid, number)
