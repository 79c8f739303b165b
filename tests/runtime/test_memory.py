"""Freed buffers are reused without page faults, and products of many shapes need no memory."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from pipeline.runtime.memory import keep_freed_memory
torch.set_num_threads(1)
{call}
def allocate():
    for _ in range(5):
        [torch.zeros(2**23) for _ in range(4)]  # 4 x 32 MiB, or 32,768 pages
allocate()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
allocate()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs the malloc of glibc")
def test_freed_memory_is_reused_without_page_faults() -> None:
    def faults(call: str) -> int:
        code = FAULTS.format(call=call)
        return int(
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        )

    kept = faults("assert keep_freed_memory()")
    assert kept < faults("") / 10


SHAPES = """
import torch
from pipeline.runtime.device import use_one_core
from pipeline.runtime.memory import peak_memory_mb
{call}
torch.set_num_threads(1)
weight, rows = torch.zeros(1024, 64, dtype=torch.bfloat16), torch.zeros(3000, 64).bfloat16()
with torch.no_grad():
    torch.nn.functional.linear(rows, weight)
    before = peak_memory_mb()
    for count in range(2800, 3000):  # results of 6 MB
        torch.nn.functional.linear(rows[:count], weight)
print(peak_memory_mb() - before)
"""


@pytest.mark.slow
def test_products_of_many_shapes_do_not_add_up() -> None:
    def growth(call: str) -> float:
        code = SHAPES.format(call=call)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
        return float(done.stdout)

    limited = growth("use_one_core()")
    assert limited < 300
    if growth("") < 500:
        pytest.skip("this CPU's products in bf16 keep no buffers")
