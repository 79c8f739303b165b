"""The machine that a benchmark runs on: its name, and how fast it multiplies matrices, which is the
arithmetic limit that a recurrent network is held against."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
SIDES = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the matrices."""


def device(rank: int = 0) -> torch.device:
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def name() -> str:
    """Of a GPU, or of the CPU's cores."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{cpu()} cores"


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))


def in_turn(contenders: list[Callable[[], None]], seconds: float) -> list[float]:
    """The median time of each; each is run at least three times, after one to warm up."""
    times: list[list[float]] = [[] for _ in contenders]
    for run in contenders:
        run()
    begun = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - begun < seconds * len(contenders):
        for run, found in zip(contenders, times, strict=True):
            start = time.perf_counter()
            run()
            found.append(time.perf_counter() - start)
    return [statistics.median(found) for found in times]


def product_rate(dtype: torch.dtype, seconds: float = 0.1, on: torch.device | None = None) -> float:
    """Floating-point operations a second of a product of square matrices."""
    on = on or device()
    side = SIDES[on.type]
    a, b = (torch.randn(side, side, device=on).to(dtype) for _ in range(2))

    def run() -> None:
        torch.mm(a, b)
        if on.type == "cuda":
            torch.cuda.synchronize(on)

    (median,) = in_turn([run], seconds)
    return 2 * side**3 / median


def limit(precision: str, processes: int, seconds: float = 1.0) -> float:
    """Operations a second of so many processes at once, a core or a GPU each."""
    command = [sys.executable, __file__, precision, str(seconds)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*command, str(rank)], env=env, stdout=subprocess.PIPE)
        for rank in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in started)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(product_rate(TYPES[sys.argv[1]], float(sys.argv[2]), device(int(sys.argv[3]))))
