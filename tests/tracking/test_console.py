"""Console progress in a log: a line every few seconds, on rank 0 only."""

import time

import pytest

from pipeline.tracking.console import ConsoleProgress


def test_a_line_is_printed_every_five_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    progress = ConsoleProgress(rows=1000, done=100, enabled=True)
    for step in range(1, 11):
        clock[0] += 1
        progress.update(step, 100 + 10 * step, {"train/loss": 0.5, "tokens_per_s": 12345.6})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0] == "step 1  11.0%  loss 0.500  tokens_per_s 12.3k  left 1:29"
    assert lines[1].startswith("step 6  16.0%")


def test_disabled_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ConsoleProgress(rows=10, done=0, enabled=False)
    progress.update(1, 5, {"loss": 1.0})
    progress.say("something")
    progress.close()
    assert capsys.readouterr() == ("", "")
