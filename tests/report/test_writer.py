"""The report while a run trains: how often it is written, and that an error stops nothing."""

import time
from pathlib import Path

import pytest

from pipeline.report import page
from pipeline.report.writer import MAX_SHARE, ReportWriter


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that shows the one item of this list."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_updates_take_at_most_a_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: list[float]
) -> None:
    written = []

    def write(folder: Path) -> None:
        written.append(folder)
        clock[0] += 2.0

    monkeypatch.setattr(page, "write", write)
    report = ReportWriter(tmp_path)
    report.update()
    assert written == [tmp_path]
    report.update()
    clock[0] += 2.0 / MAX_SHARE - 1
    report.update()
    assert len(written) == 1
    clock[0] += 1
    report.update()
    assert len(written) == 2
    report.write()  # the end of a run does not wait
    assert len(written) == 3


def test_an_error_is_one_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(page, "write", fail)
    report = ReportWriter(tmp_path)
    report.update()
    report.write()
    (record,) = caplog.records
    assert "report.html cannot be written: OSError" in record.getMessage()
    assert "training continues" in record.getMessage()
