"""A plain line every few seconds in a log, of rank 0 alone."""

import pytest

from pipeline.tracking import console
from pipeline.tracking.console import ConsoleProgress


def test_lines_in_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(console.time, "perf_counter", lambda: clock[0])
    shown = ConsoleProgress(rows=1000, done=100, shown=True)
    for step in range(1, 11):
        clock[0] += 1
        shown.update(step, 100 + 10 * step, {"train/loss": 0.5, "tokens_per_s": 12345.6})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == "step 1  11.0%  loss 0.500  tokens_per_s 12.3k  left 1:29"
    assert lines[1].startswith("step 6  16.0%")


def test_other_ranks_keep_silent(capsys: pytest.CaptureFixture[str]) -> None:
    silent = ConsoleProgress(rows=10, done=0, shown=False)
    silent.update(1, 5, {"loss": 1.0})
    silent.say("something")
    silent.close()
    assert capsys.readouterr() == ("", "")
