"""The end of a run: the calibration of its best checkpoint."""

import logging
from dataclasses import replace
from pathlib import Path

from pipeline.config import Config
from pipeline.errors import RunError
from pipeline.evaluation.calibration.fit import fit, measure
from pipeline.evaluation.calibration.scored_rows import FOLDS, RowCollector
from pipeline.run import checkpoint
from pipeline.run.calibration import CalibrationRecord, is_of, method_of, read_record
from pipeline.run.folder import RunFolder
from pipeline.training.trainer import Trainer

logger = logging.getLogger(__name__)


def is_calibrated(config: Config, folder: RunFolder) -> bool:
    """Return whether the best checkpoint has the calibration that the config asks for."""
    method = method_of(config.task)
    return method == "none" or current_record(folder, folder.best_checkpoint(), method) is not None


def current_record(folder: RunFolder, path: Path, method: str) -> CalibrationRecord | None:
    """Return the content of `calibration.json` if it is of a checkpoint and a method.

    A damaged file counts as missing, with a warning: it is written again.
    """
    try:
        record = read_record(folder)
    except RunError as error:
        logger.warning("%s", error)
        return None
    return record if record and record.method == method and is_of(record, path) else None


def calibrate(
    config: Config, folder: RunFolder, trainer: Trainer
) -> tuple[CalibrationRecord | None, bool]:
    """Fit the calibration of the best checkpoint on the validation split, unless it is in
    `calibration.json` already. Return None if there is nothing to fit, and whether it is new.

    Training must be over. Collective: every rank must call it.
    """
    method, world = method_of(config.task), trainer.world
    if method == "none":
        return None, False
    path, record = None, None
    if world.first:
        path = folder.best_checkpoint()
        record = current_record(folder, path, method)
    path, record = world.from_first((path, record))
    if record:
        return record, False
    step = trainer.state.best_step
    logger.info("calibrating step %d, the best checkpoint, on the validation split", step)
    collector = RowCollector(trainer.task)
    trainer.evaluate_checkpoint(path, trainer.validation, [collector])
    rows = collector.rows(world)
    if world.first:
        found = fit(method, rows, trainer.task.labels)
        calibration = found.calibration
        record = CalibrationRecord(
            step=step,
            weights=checkpoint.weights_digest(path),
            method=method,
            rows=len(rows),
            folds=FOLDS,
            before=found.before,
            after=found.after,
            reason=found.reason,
            temperature=calibration.temperature,
            threshold=calibration.threshold,
            label_thresholds=calibration.label_thresholds,
        )
    return world.from_first(record), True


def with_test(
    record: CalibrationRecord, collector: RowCollector, trainer: Trainer
) -> CalibrationRecord:
    """Return the record with the metrics of the test split, whose rows the collector has.

    Collective: every rank must call it.
    """
    rows, labels = collector.rows(trainer.world), trainer.task.labels
    before, after = (
        measure(record.method, rows, calibration, labels)
        for calibration in (trainer.task.calibration, record.calibration)
    )
    return replace(record, test_rows=len(rows), test_before=before, test_after=after)
