"""Console progress: a bar that fits the terminal, lines in a log, and the line of an evaluation."""

import io
import os
import re
import shutil
import sys
import time

import pytest

from pipeline.tracking.console import (
    ConsoleProgress,
    Progress,
    RunLength,
    bar_line,
    evaluation_line,
    parts,
)

LENGTH = RunLength(rows=1000, updates=100, epochs=4)
METRICS = {"train/loss": 0.4123, "train/accuracy": 0.8, "tokens_per_s": 12345.6}


def test_a_log_gets_a_line_every_five_seconds_on_rank_0(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    progress = ConsoleProgress(LENGTH, enabled=True)
    for step in range(1, 12):
        clock[0] += 1
        progress.update(10 + step, 100 + 10 * step, METRICS)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 1/4  step 11/100  11%  loss 0.412  accuracy 0.800  12.3k tokens/s  left ?",
        "epoch 1/4  step 16/100  16%  loss 0.412  accuracy 0.800  left 1:24",
        "epoch 1/4  step 21/100  21%  loss 0.412  accuracy 0.800  left 1:19",
    ]


def test_disabled_progress_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    progress = ConsoleProgress(LENGTH, enabled=False)
    progress.update(1, 5, {"loss": 1.0})
    progress.say("something")
    progress.close()
    assert capsys.readouterr() == ("", "")


BARS = {
    110: (
        "[##########----------]  epoch 3/4  step 50/100  50%  loss 0.412  accuracy 0.800  "
        "12.3k tokens/s  left 1:20"
    ),
    79: "[####-----]  epoch 3/4  step 50/100  50%  loss 0.412  accuracy 0.800  left 1:20",
    60: "epoch 3/4  step 50/100  50%  loss 0.412  left 1:20",
    40: "epoch 3/4  step 50/100  50%  loss 0.412 ",
}


@pytest.mark.parametrize("width", BARS)
def test_the_bar_leaves_out_what_does_not_fit(width: int) -> None:
    """The bar first, then the throughput, then metrics other than the loss."""
    line = bar_line(LENGTH, Progress(50, 500, METRICS, 80.5), width)
    assert line == BARS[width]
    assert len(line) <= width


def test_a_bar_of_large_numbers_fits_60_columns() -> None:
    length = RunLength(rows=10**9, updates=1_234_567, epochs=100, exact=False)
    line = bar_line(length, Progress(123_456, 10**8, METRICS, 43_401), 60)
    assert line == "epoch 11/100  step 123456/~1234567  10%  loss 0.412  left 12"[:60]


def test_percent_of_a_run_that_max_steps_ends_early() -> None:
    """It will not consume all rows."""
    length = RunLength(rows=1000, updates=20, epochs=1)
    assert parts(length, Progress(10, 50, {}, None)) == [
        "epoch 1/1", "step 10/20", "50%", "left ?",
    ]  # fmt: skip
    assert parts(length, Progress(25, 1000, {}, 0.0))[2] == "100%", "never more"


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_bar_of_a_terminal_is_at_most_80_columns(
    columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    size = os.terminal_size((columns, 24))
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: size)
    progress = ConsoleProgress(LENGTH, enabled=True)
    progress.update(1, 10, METRICS)
    progress.say("a line")
    progress.close()
    written = re.split(r"[\r\n]", terminal.getvalue())
    assert "a line" in written
    assert any("epoch 1/4  step 1/100  1%  loss 0.412" in line for line in written)
    assert max(map(len, written)) < min(columns, 80)


def test_an_evaluation_shows_the_best_metric_first_and_marks_a_new_best() -> None:
    metrics = {"examples": 27, "loss": 0.8698, "accuracy": 0.5556, "macro_f1": 0.537}
    assert (
        evaluation_line(5, metrics, "accuracy", is_best=True)
        == "step 5  validation: accuracy 0.5556 (best so far)  loss 0.8698  macro_f1 0.537"
    )
    assert (
        evaluation_line(5, metrics, "macro_f1", is_best=False)
        == "step 5  validation: macro_f1 0.537  loss 0.8698  accuracy 0.5556"
    )


def test_an_evaluation_of_many_metrics_is_one_line_of_80_columns() -> None:
    metrics = {"loss": 1.0, "f1": 0.5, **{f"metric_{n}": float(n) for n in range(20)}}
    line = evaluation_line(123, metrics, "f1", is_best=True)
    assert line.startswith("step 123  validation: f1 0.5 (best so far)  loss 1  metric_0 0")
    assert 60 < len(line) <= 80
