"""The line on time and memory after the first updates."""

import pytest

from pipeline.tracking.console import RunLength
from pipeline.tracking.expected_time import ExpectedTime


def test_it_is_printed_once_after_ten_updates_without_the_first() -> None:
    """An evaluation between two updates does not count either."""
    expected = ExpectedTime(RunLength(rows=1, updates=1011, epochs=1))
    now, lines = 100.0, []
    for step in range(1, 30):
        now += 60 if step == 1 else 30 if step == 5 else 0.25
        lines.append(expected.update(step, now, 512.4))
    assert [step for step, line in enumerate(lines, 1) if line] == [11]
    assert lines[10] == (
        "time      about 4:10 for 1,000 updates, without evaluations; 512 MB per process"
    )


def test_a_resumed_run_counts_the_updates_that_are_left() -> None:
    expected = ExpectedTime(RunLength(rows=1, updates=100, epochs=1))
    lines = [expected.update(50 + step, float(step), 2048, "GPU") for step in range(1, 12)]
    assert lines[-1] == ("time      about 0:39 for 39 updates, without evaluations; 2.0 GB per GPU")


@pytest.mark.parametrize("updates", [1, 10])
def test_a_run_of_few_updates_ends_without_the_line(updates: int) -> None:
    expected = ExpectedTime(RunLength(rows=1, updates=updates, epochs=1))
    assert not any(expected.update(step, float(step), 1.0) for step in range(1, updates + 1))
