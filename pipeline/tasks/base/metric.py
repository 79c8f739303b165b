"""Base classes of the metrics that `task.metrics` adds to an evaluation.

A metric is computed at once from the predictions of all ranks, so it does not depend on their
number. Those of a large evaluation must fit in memory: N rows with C scores take 8 * N * C bytes.

Shapes: N rows of the evaluation, C labels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import ClassVar

from torch import Tensor

from pipeline import components
from pipeline.components import Component
from pipeline.settings import Conflict, Sections
from pipeline.tasks.base.settings import TaskSettings

LABEL, LABELS, NUMBER = "a label", "any number of labels", "a number"
"""What a task predicts for a row, as `Task.predicts`:

    LABEL   scores [N, C] that sum to 1, true labels [N]
    LABELS  probabilities [N, C], 0 or 1 [N, C]
    NUMBER  numbers [N], true numbers [N]
"""


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

    def __init__(self, settings: TaskSettings, labels: Sequence[str] = ()) -> None:
        """`labels` are the names of the C labels, if there are labels."""
        self.settings, self.labels = settings, labels

    @property
    def name(self) -> str:
        """The metric's name in logs, and as a value of `train.best_metric`."""
        return components.reference("metric", type(self)).rpartition(":")[2]

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

    def compute(self, predictions: Tensor, targets: Tensor) -> float:
        several = targets.ndim == 2
        kind, key = ("multilabel", "num_labels") if several else ("multiclass", "num_classes")
        module = import_module("torchmetrics.functional.classification")
        function = getattr(module, f"{kind}_{self.function}")
        return float(function(predictions, targets.long(), **{key: predictions.shape[1]}))


class NumberMetric(Metric):
    """A metric of torchmetrics of one number per row."""

    predictions = (NUMBER,)
    libraries = ("torchmetrics",)
    function: ClassVar[str]
    """The name of torchmetrics' function."""

    def compute(self, predictions: Tensor, targets: Tensor) -> float:
        module = import_module("torchmetrics.functional.regression")
        return float(getattr(module, self.function)(predictions, targets))
