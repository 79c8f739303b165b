"""The machine that a benchmark runs on: its name and its matrix multiplication rate.

The multiplication rate is the arithmetic limit that recurrent networks are compared with.
"""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MATRIX_SIZES = {"cpu": 1024, "cuda": 8192}
"""Rows and columns of the square matrices, per device type."""


def device(rank: int = 0) -> torch.device:
    """Return the rank's GPU, or the CPU if there is no GPU."""
    return torch.device("cuda", rank) if torch.cuda.is_available() else torch.device("cpu")


def name() -> str:
    """Return the name of the GPU, or of the CPU if there is no GPU."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else f"{cpu_name()} cores"


def cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))


def time_in_turn(functions: list[Callable[[], None]], seconds: float) -> list[float]:
    """Return each function's median time; the functions take turns.

    After one warm-up call, each function is called at least three times, for about `seconds` each.
    """
    times: list[list[float]] = [[] for _ in functions]
    for run in functions:
        run()
    begin = time.perf_counter()
    while len(times[0]) < 3 or time.perf_counter() - begin < seconds * len(functions):
        for run, run_times in zip(functions, times, strict=True):
            start = time.perf_counter()
            run()
            run_times.append(time.perf_counter() - start)
    return [statistics.median(run_times) for run_times in times]


def product_rate(dtype: torch.dtype, seconds: float = 0.1, on: torch.device | None = None) -> float:
    """Return the floating-point operations per second of a product of two square matrices."""
    on = on or device()
    size = MATRIX_SIZES[on.type]
    a, b = (torch.randn(size, size, device=on).to(dtype) for _ in range(2))

    def run() -> None:
        torch.mm(a, b)
        if on.type == "cuda":
            torch.cuda.synchronize(on)

    (median,) = time_in_turn([run], seconds)
    return 2 * size**3 / median


def limit(precision: str, processes: int, seconds: float = 1.0) -> float:
    """Return the summed `product_rate` of n simultaneous processes, each on one core or GPU."""
    command = [sys.executable, __file__, precision, str(seconds)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen([*command, str(rank)], env=env, stdout=subprocess.PIPE)
        for rank in range(processes)
    ]
    return sum(float(process.communicate()[0]) for process in started)


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(product_rate(DTYPES[sys.argv[1]], float(sys.argv[2]), device(int(sys.argv[3]))))
