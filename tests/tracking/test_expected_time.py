"""The line on time and memory after the first updates."""

import pytest

from pipeline.tracking import expected_time
from pipeline.tracking.console import RunLength
from pipeline.tracking.expected_time import ExpectedTime


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """The peak memory of the process and of its GPU, in MB."""
    found = {"peak_memory_mb": 512.4, "peak_gpu_memory_mb": 0.0}
    for name in found:
        monkeypatch.setattr(expected_time, name, lambda name=name: found[name])
    return found


@pytest.mark.parametrize(
    "seconds, printed, expected",
    [
        (0.5, 11, "about 8:20 for 1,000 updates"),
        (0.25, 13, "about 4:09 for 998 updates"),  # 12 updates of 3 seconds in all
        (0.125, 25, "about 2:03 for 986 updates"),
    ],
)
def test_it_is_printed_once_after_ten_updates_and_three_seconds(
    seconds: float, printed: int, expected: str
) -> None:
    """The first update does not count, and neither does an evaluation between two updates."""
    expectation = ExpectedTime(RunLength(rows=1, updates=1011, epochs=1))
    now, lines = 100.0, []
    for step in range(1, 60):
        now += 60 if step == 1 else 30 if step == 5 else seconds
        lines.append(expectation.update(step, now))
    assert [step for step, line in enumerate(lines, 1) if line] == [printed]
    assert lines[printed - 1] == (f"time      {expected}, without evaluations; 512 MB per process")


def test_a_resumed_run_counts_the_updates_that_are_left(memory: dict[str, float]) -> None:
    memory["peak_gpu_memory_mb"] = 2048
    expected = ExpectedTime(RunLength(rows=1, updates=100, epochs=1))
    lines = [expected.update(50 + step, float(step)) for step in range(1, 12)]
    assert lines[-1] == ("time      about 0:39 for 39 updates, without evaluations; 2.0 GB per GPU")


@pytest.mark.parametrize("updates", [1, 10])
def test_a_run_of_few_updates_ends_without_the_line(updates: int) -> None:
    expected = ExpectedTime(RunLength(rows=1, updates=updates, epochs=1))
    assert not any(expected.update(step, float(step)) for step in range(1, updates + 1))
