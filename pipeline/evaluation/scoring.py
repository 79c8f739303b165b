"""Metrics of `task.metrics`, from the predictions and targets of all documents."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline import components
from pipeline.errors import TrainingError
from pipeline.tasks.base.metric import Metric, join_scored
from pipeline.tasks.base.task import Evaluation

MAX_POINTS = 2000
"""Rows in a scatter plot of true and predicted numbers."""


def add_metrics(
    evaluation: Evaluation,
    metrics: Sequence[Metric],
    scored: Sequence[tuple[Tensor, Tensor]],
) -> Evaluation:
    """Return an evaluation with further metrics of predictions and targets.

    Raises TrainingError for an exception in a metric.
    """
    predictions, targets, has_unknown = join_scored(scored)
    if has_unknown:
        metrics = [metric.with_unknown() for metric in metrics]
    added = {metric.name: compute(metric, predictions, targets) for metric in metrics}
    points: list[tuple[float, float]] = []
    if predictions.ndim == 1:
        chosen = torch.linspace(
            0, len(targets) - 1, min(len(targets), MAX_POINTS), dtype=torch.float64
        ).long()
        order = targets.argsort(stable=True)[chosen]  # over the whole range of true numbers
        points = list(zip(targets[order].tolist(), predictions[order].tolist(), strict=True))
    return replace(evaluation, metrics=evaluation.metrics | added, scatter=points)


def compute(metric: Metric, predictions: Tensor, targets: Tensor) -> float:
    """Return a metric's value. Raises TrainingError for an exception in the metric."""
    try:
        return float(metric.compute(predictions.clone(), targets.clone()))
    except Exception as error:
        raise TrainingError(
            f"task.metrics: {metric.name}: {components.describe(error)}; fix it"
        ) from error
