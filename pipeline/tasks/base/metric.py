"""Base classes of the metrics that `task.metrics` adds to an evaluation.

A metric is computed at once from the predictions of all ranks, so it does not depend on their
number. Those of a large evaluation must fit in memory: N rows with C scores take 8 * N * C bytes.

Shapes: N rows of the evaluation, C labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from importlib import import_module
from typing import ClassVar, Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline import components
from pipeline.components import Component
from pipeline.settings import Conflict, Sections
from pipeline.tasks.base.settings import TaskSettings

LABEL, LABELS, NUMBER = "a label", "any number of labels", "a number"
"""What a task predicts for a row, as `Task.predicts`:

    LABEL   scores [N, C] that sum to 1, true labels [N]
    LABELS  scores [N, C], 0 or 1 [N, C]; a score of at least 0.5 is a predicted label
    NUMBER  numbers [N], true numbers [N]

`headrace evaluate` counts labels that the model does not know as wrong. If there are any, they are
together one more label, the last of C + 1: its scores are 0, so it is never predicted.

The scores of LABELS are probabilities, rescaled if the thresholds of `task.calibrate` are in use.
"""

UNKNOWN = "(unknown)"
"""Name of that label."""


class Metric(Component, ABC):
    """A metric of the predictions of all rows."""

    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    """The metric's keys in the section `task`."""
    predictions: ClassVar[tuple[str, ...]]
    """The kinds of predictions that the metric can be computed from: LABEL, LABELS, NUMBER."""
    lower_is_better: ClassVar[bool] = False
    """Whether a lower value is better."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Optional libraries that `compute` imports."""
    has_unknown: bool = False
    """Whether the last label represents all those that the model does not know."""

    def __init__(self, settings: TaskSettings, labels: Sequence[str] = ()) -> None:
        """`labels` are the names of the C labels, if there are labels."""
        self.settings, self.labels = settings, labels

    @property
    def name(self) -> str:
        """The metric's name in logs, and as a value of `train.best_metric`."""
        return components.reference("metric", type(self)).rpartition(":")[2]

    def with_unknown(self) -> Self:
        """Return this metric for one more label, which represents all unknown ones."""
        metric = copy(self)
        metric.labels, metric.has_unknown = [*self.labels, UNKNOWN], True
        return metric

    @abstractmethod
    def compute(self, predictions: Tensor, targets: Tensor) -> float:
        """Compute the metric from float64 predictions and targets, shaped as `predictions`
        says."""

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        predicted = components.load("task", config.task.name).predicts
        if predicted not in cls.predictions:
            yield Conflict(
                "task.metrics",
                f"{cls.__name__} is a metric of tasks that predict {' or '.join(cls.predictions)}; "
                f"task.name={config.task.name} predicts {predicted or 'something else'}",
                "remove it",
            )


class LabelMetric(Metric):
    """A metric of torchmetrics that is defined for one label per row and for several."""

    predictions: ClassVar[tuple[str, ...]] = (LABEL, LABELS)
    libraries = ("torchmetrics",)
    function: ClassVar[str]
    """The name of torchmetrics' functions, after `multiclass_` and `multilabel_`."""
    ranks_rows: ClassVar[bool] = False
    """Whether the metric is a mean of values that rank all rows by the scores of one label. There
    is none for unknown labels, which have no scores; their rows are false ones of each label."""

    def compute(self, predictions: Tensor, targets: Tensor) -> float:
        several = targets.ndim == 2
        kind, key = ("multilabel", "num_labels") if several else ("multiclass", "num_classes")
        module = import_module("torchmetrics.functional.classification")
        function = getattr(module, f"{kind}_{self.function}")
        labels = {key: predictions.shape[1]}
        if self.ranks_rows and self.has_unknown:
            values = function(predictions, targets.long(), average="none", **labels)
            return float(values[:-1].nanmean())
        return float(function(predictions, targets.long(), **labels))


class NumberMetric(Metric):
    """A metric of torchmetrics of one number per row."""

    predictions = (NUMBER,)
    libraries = ("torchmetrics",)
    function: ClassVar[str]
    """The name of torchmetrics' function."""

    def compute(self, predictions: Tensor, targets: Tensor) -> float:
        module = import_module("torchmetrics.functional.regression")
        return float(getattr(module, self.function)(predictions, targets))


def join_scored(scored: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, bool]:
    """Concatenate predictions and targets, as `Task.scored` returns them for each batch.

    The last value is whether there are unknown labels: label ids [N] of C or more, or targets
    [N, C + 1]. They then become the last of C + 1 labels, whose scores are 0.
    """
    predictions = torch.cat([values for values, _ in scored])
    parts = [targets for _, targets in scored]
    if predictions.ndim == 1:
        return predictions, torch.cat(parts), False
    labels = predictions.shape[1]
    if parts[0].ndim == 1:
        targets = torch.cat(parts).clamp(max=labels)
        has_unknown = bool((targets == labels).any())
    else:
        has_unknown = any(part.shape[1] > labels for part in parts)
        width = labels + has_unknown
        targets = torch.cat([pad(part, (0, width - part.shape[1])) for part in parts])
    return (pad(predictions, (0, 1)) if has_unknown else predictions), targets, has_unknown
