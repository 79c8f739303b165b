"""Real runs in processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[2]
CRASH = Path(__file__).parent / "crash.py"


def command(
    *overrides: str, nproc: int = 1, crash: tuple[str, int] | None = None, restarts: int = 0
) -> list[str]:
    """Train with `nproc` processes; `crash` is a point and a step of `crash.py`."""
    script = [str(REPOSITORY / "launch" / "train.py")]
    if crash:
        script = [str(CRASH), crash[0], str(crash[1])]
    if nproc == 1 and not restarts:
        return [sys.executable, *script, *overrides]
    return torchrun(*script, *overrides, nproc=nproc, restarts=restarts)


def torchrun(*script: str, nproc: int, restarts: int = 0) -> list[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        *(sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={nproc}"),
        *(f"--master_port={port}", f"--max-restarts={restarts}", "--monitor-interval=0.1"),
        *script,
    ]


def start(arguments: list[str], cwd: Path = REPOSITORY) -> subprocess.Popen[str]:
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return subprocess.Popen(
        arguments, cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str], timeout: float = 120) -> tuple[int, str, str]:
    """Exit status, stdout and stderr."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return process.returncode, out, err


def run(*overrides: str, **how: Any) -> tuple[int, str, str]:
    return finish(start(command(*overrides, **how)))


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def metrics(folder: Path) -> list[dict[str, float]]:
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def losses(folder: Path) -> dict[int, float]:
    return {
        int(line["step"]): line["train/loss"] for line in metrics(folder) if "train/loss" in line
    }


def figures(folder: Path) -> list[dict[str, float]]:
    """All metrics but those of a session's clock, memory and counters."""
    return [
        {k: v for k, v in line.items() if k != "time" and not k.startswith("perf/")}
        for line in metrics(folder)
    ]


def weights(folder: Path) -> bytes:
    return (folder / "checkpoints" / "latest" / "model.safetensors").read_bytes()


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> None:
    os.kill(process.pid, number)
