"""Tests of the reporter's console output."""

import logging
from pathlib import Path

import pytest

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.run.checkpoint import TrainingState
from pipeline.run.folder import RunFolder
from pipeline.tasks.base.task import Evaluation
from pipeline.tracking.reporter import Reporter
from pipeline.tracking.settings import TrackSettings


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
        settings, "run", {}, manifest, RunFolder(tmp_path), 100, TrainingState(), {}
    ) as reporter:
        reporter.update(1, 10, {"train/loss": 0.5})
        reporter.evaluated(1, Evaluation({"accuracy": 0.5}), [], list)
    printed = capsys.readouterr().err
    assert ("loss 0.500" in printed, "validation: accuracy 0.5" in printed) == (prints, prints)
