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
    """Write the folder of an exported model and return the content of its config.json.

    `extra` maps names of further files to their text. Raises RunError if `target` exists and is not
    an exported model, or if it cannot be written.
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
    """Return the content of an exported model's config.json, or its content for a run's model."""
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
    """Return the metrics that were measured at a step: those of the test split, and the best metric
    of the validation split."""
    summary = read_summary(folder)
    if summary is None:
        return {}
    metrics: dict[str, float] = {}
    if summary.best is not None and summary.best_step == step:
        metrics[f"validation/{summary.metric}"] = summary.best
    if summary.test_step == step:
        metrics |= {f"test/{name}": value for name, value in summary.test.items()}
    return metrics
