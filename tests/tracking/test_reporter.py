"""Tests of the reporter's console output."""

import logging
from contextlib import suppress
from pathlib import Path

import pytest

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.run.checkpoint import TrainingState
from pipeline.run.folder import RunFolder
from pipeline.tasks.base.task import Evaluation, Mistake
from pipeline.tracking.console import RunLength
from pipeline.tracking.reporter import Reporter
from pipeline.tracking.settings import TrackSettings

LENGTH = RunLength(100, 10, 1)


@pytest.mark.parametrize("level, prints", [(logging.WARNING, False), (logging.INFO, True)])
def test_quiet_runs_print_no_progress(
    level: int,
    prints: bool,
    manifest: Manifest,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(level, logger="pipeline")
    settings = TrackSettings(enabled=False)
    with Reporter(
        settings, "run", {}, manifest, RunFolder(tmp_path), LENGTH, TrainingState(), {}
    ) as reporter:
        reporter.update(1, 10, {"train/loss": 0.5})
        reporter.evaluated(
            1, Evaluation({"accuracy": 0.5}), [], list, best_metric="accuracy", is_best=True
        )
    printed = capsys.readouterr().err
    assert ("loss 0.500" in printed, "validation: accuracy 0.5 (best so far)" in printed) == (
        prints,
        prints,
    )


@pytest.mark.parametrize("kind", [None, KeyboardInterrupt, ValueError])
def test_the_report_is_written_however_a_run_ends(
    kind: type[BaseException] | None, manifest: Manifest, tmp_path: Path
) -> None:
    settings = TrackSettings(trackers=[])
    reporter = Reporter(
        settings, "run", {}, manifest, RunFolder(tmp_path), LENGTH, TrainingState(), {}
    )
    mistake = Mistake(2.0, [], {"true": "a", "predicted": "b"})
    with suppress(KeyboardInterrupt, ValueError), reporter:
        reporter.log(1, {"train/loss": 0.5})
        reporter.evaluated(1, Evaluation({"accuracy": 0.5}), [mistake], list)
        assert "Worst mistakes" in (tmp_path / "report.html").read_text()
        (tmp_path / "report.html").unlink()
        if kind:
            raise kind
    html = (tmp_path / "report.html").read_text()
    assert "id='curves'" in html
    assert "id='environment'" in html


def test_without_report_and_trackers_nothing_is_computed(
    manifest: Manifest, tmp_path: Path
) -> None:
    settings = TrackSettings(trackers=[], report=False)
    with Reporter(
        settings, "run", {}, manifest, RunFolder(tmp_path), LENGTH, TrainingState(), {}
    ) as reporter:
        reporter.evaluated(1, Evaluation({"accuracy": 0.5}), [], lambda: pytest.fail("samples"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl"]
