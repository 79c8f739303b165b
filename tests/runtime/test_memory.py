"""Freed buffers are reused without page faults."""

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
