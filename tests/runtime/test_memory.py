"""Buffers that are freed and taken again cost no page faults."""

import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from pipeline.runtime.memory import keep_freed_memory
torch.set_num_threads(1)
{call}
def use():
    for _ in range(5):
        [torch.zeros(2**23) for _ in range(4)]  # 4 x 32 MiB, or 32,768 pages
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is Linux's")
def test_freed_memory_is_kept() -> None:
    def faults(call: str) -> int:
        code = FAULTS.format(call=call)
        return int(
            subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
        )

    kept = faults("assert keep_freed_memory()")
    assert kept < faults("") / 10
