"""Exports a trained model as a folder that needs no run, dataset or tracking server."""

from collections.abc import Mapping
from pathlib import Path

from pipeline import __version__
from pipeline.inference.trained import TrainedModel
from pipeline.run import exported
from pipeline.run.exported import ExportedModel
from pipeline.run.folder import RunFolder
from pipeline.run.summary import read_summary


def export_folder(
    model: TrainedModel, target: Path, extra: Mapping[str, str] | None = None
) -> ExportedModel:
    """Write the folder of an exported model and return its facts.

    `extra` are texts of further files by name. Raises RunError if `target` is another folder, or if
    the disk fails.
    """
    facts = facts_of(model)
    exported.write(
        target,
        facts,
        model.module.state_dict(),
        config=model.files.config,
        manifest=model.manifest,
        extra=extra,
    )
    return facts


def facts_of(model: TrainedModel) -> ExportedModel:
    """Return the facts about a model: those of an exported one, or those of its run."""
    files = model.files
    if exported.is_exported(files.folder):
        return exported.read(files.folder)
    return ExportedModel(
        model.config.task.name,
        files.precision,
        files.step,
        __version__,
        name=files.folder.name,
        metrics=_metrics(RunFolder(files.folder), files.step),
        labels=list(model.task.labels),
        calibration=model.task.calibration,
    )


def _metrics(folder: RunFolder, step: int) -> dict[str, float]:
    """Return the metrics of the weights of a step: those of the test split, and the best one of the
    validation split."""
    summary = read_summary(folder)
    if summary is None:
        return {}
    metrics: dict[str, float] = {}
    if summary.best is not None and summary.best_step == step:
        metrics[f"validation/{summary.metric}"] = summary.best
    if summary.test_step == step:
        metrics |= {f"test/{name}": value for name, value in summary.test.items()}
    return metrics
