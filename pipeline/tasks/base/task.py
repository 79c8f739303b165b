"""The interface between tasks and the code that trains, evaluates and predicts.

A task does not know its rank and does not access files. It returns sums, not means: the training
loop adds them up over batches and ranks, so that metrics are exact for any number of ranks.

Shapes: B rows of a batch, T tokens of the longest row, F features.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from pipeline import components
from pipeline.components import Component
from pipeline.corpus.field_spec import FieldSpec
from pipeline.errors import ConfigError
from pipeline.stream.batch import Batch
from pipeline.tasks.base.calibration import NO_CALIBRATION, Calibration
from pipeline.tasks.base.metric import Metric
from pipeline.tasks.base.sample import ImageData, Sample
from pipeline.tasks.base.settings import TaskSettings


@dataclass(frozen=True)
class Baseline:
    """A metric of a model that always makes the same guess."""

    metric: str
    value: float
    guess: str
    """The guess as text, such as 'billing'."""


@dataclass(frozen=True)
class CalibrationBin:
    """Predictions with a probability from `low` to `high`."""

    low: float
    high: float
    count: int
    confidence: float
    """Mean probability."""
    accuracy: float
    """Share of correct predictions."""


@dataclass(frozen=True)
class LengthBin:
    """Documents of `low` to `high` tokens."""

    low: int
    high: int
    count: int
    value: float
    """Mean of `Evaluation.length_metric`."""


@dataclass(frozen=True)
class Evaluation:
    """The result of an evaluation."""

    metrics: dict[str, float]
    """Metrics by name. `examples` is the number of documents, `loss` is a mean."""
    confusion: list[list[int]] = field(default_factory=list)
    """Confusion matrix: confusion[true][predicted] is a count. Empty if there is none."""
    labels: Sequence[str] = ()
    """Labels of the confusion matrix's rows and columns."""
    left_out: int = 0
    """Number of labels that share the last row and column of the confusion matrix."""
    confusion_unit: str = "rows"
    """The unit that the confusion matrix counts."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """Signatures by metric name: how the metric was computed, to compare published scores."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Bounds of 95 % confidence intervals by metric name. Empty if there are none."""
    calibration: Sequence[CalibrationBin] = ()
    """Bins of predictions by their probability. Empty if there are no probabilities."""
    by_length: Sequence[LengthBin] = ()
    """Bins of documents by their length. Empty if there is no metric of one document."""
    length_metric: str = ""
    """Name of the metric in `by_length`."""
    scatter: list[tuple[float, float]] = field(default_factory=list)
    """True and predicted numbers of some rows. Empty if no numbers are predicted."""
    baseline: Baseline | None = None
    """Metric of a constant guess, to compare with. None if there is no sensible guess."""


MAX_MISTAKES = 50
"""Worst mistakes that an evaluation keeps."""


@dataclass(frozen=True)
class Mistake:
    """A document for which the model's prediction is wrong."""

    loss: float
    tokens: list[int]
    """Tokens of the text; empty if `details` has the text."""
    details: dict[str, Any]
    """Values to display next to the text, by name."""
    image: ImageData | None = None
    """The document, if it is an image."""


class DatasetInfo(Protocol):
    """The properties of a dataset that tasks use."""

    @property
    def fields(self) -> Sequence[FieldSpec]:
        """Specs of the shards' columns."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The corpus settings that the dataset was prepared with."""

    @property
    def vocabularies(self) -> Mapping[str, int]:
        """Size of each vocabulary."""

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """Label names by field; a label's or tag's index points into its field's names."""

    @property
    def counts(self) -> Mapping[str, Sequence[int]]:
        """Number of rows per label name, by field, if known."""

    @property
    def numbers(self) -> Mapping[str, Any]:
        """Mean and standard deviation (`mean`, `std`) of the fields of numbers in the training
        split, by field."""

    def token_byte_lengths(self, vocabulary: str) -> Sequence[float]:
        """Return each token's length in bytes of text, NaN where it is unknown."""

    def decode(self, vocabulary: str, ids: Sequence[int]) -> str:
        """Return the text of token ids."""


class Task(Component, ABC):
    """A kind of input-output relation to learn.

    `uses` are the model and the field kinds of the task, whose keys are added to the sections
    `model` and `corpus`.
    """

    Settings: ClassVar[type[TaskSettings]] = TaskSettings
    """The task's keys in the section `task`."""
    sum_names: ClassVar[tuple[str, ...]]
    """Names of the sums that `loss` returns: the loss, its divisor, then any others."""
    best_metric: str
    """The metric that selects the best checkpoint."""
    lower_is_better = False
    """Whether a lower value of `best_metric` is better."""
    reported: Mapping[str, bool] = MappingProxyType({"loss": False})
    """Other metrics that `train.best_metric` can name, and whether higher is better."""
    predicts: ClassVar[str] = ""
    """What `scored` returns, for the metrics of `task.metrics`: LABEL, LABELS or NUMBER of
    `pipeline.tasks.base.metric`; empty: there are no such metrics."""
    default_metrics: ClassVar[tuple[str, ...]] = ()
    """Metrics that are evaluated as if `task.metrics` named them."""
    prediction_overrides: Mapping[str, str] = MappingProxyType({})
    """Corpus settings that prediction overrides."""
    row_metric: ClassVar[str] = ""
    """Name of the values that `row_values` returns; empty if there are none. For tasks that set
    `predicts`, evaluation derives such values from `scored`."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """Optional libraries that evaluation imports."""
    settings: Any
    """The section `task`."""
    labels: Sequence[str] = ()
    """Names of the labels, if labels are predicted."""
    has_scores: ClassVar[bool] = False
    """Whether a prediction has the `scores` of the labels, whose number `top_k` sets."""
    top_k: int = 0
    """Maximum number of labels in `scores`, the most probable ones; 0: see `top_scores`."""
    calibration: Calibration = NO_CALIBRATION
    """How `evaluate`, `scored` and `predict` read outputs; training leaves it at its default."""
    per_row_fields: tuple[str, ...] = ()
    """Fields that hold a list per row, such as its labels, and not an item per token."""
    stateful = False
    """Whether texts continue from one update to the next, with a recurrent state kept between."""
    streams_unprepared: ClassVar[bool] = False
    """Whether the task can train on the input files without preparing them."""
    samples_of_inputs: ClassVar[bool] = False
    """Whether `samples` also displays rows without targets, as when a user tries a model."""
    counts_unknown_labels: ClassVar[bool] = False
    """Whether `outputs`, `evaluate` and `scored` allow true labels that the dataset lacks, with
    indices after those of its C labels, and count them as wrong. A subclass that redefines one of
    these methods sets it again."""
    unknown_names: Mapping[str, Sequence[str]] = MappingProxyType({})
    """Names of such labels by field: index C + n is that of name n. More are added meanwhile."""

    @classmethod
    def defaults(cls, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the task's own defaults of keys of other sections, by dotted key.

        `values` are the sections of the config, with the keys that it sets.
        """
        return {}

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        redefined = {"outputs", "evaluate", "scored"} & cls.__dict__.keys()
        if redefined and "counts_unknown_labels" not in cls.__dict__:
            cls.counts_unknown_labels = False
        if "predict" in cls.__dict__ and "prediction_types" not in cls.__dict__:
            cls.prediction_types = Task.prediction_types  # type: ignore[method-assign]
        if cls.predicts and cls.scored is Task.scored:
            raise TypeError(f"{cls.__name__} sets predicts without a method scored(outputs, batch)")

    @abstractmethod
    def __init__(self, settings: Any, model: Any, data: DatasetInfo) -> None:
        """`settings` and `model` are the sections `task` and `model`."""

    @staticmethod
    def example(corpus: Any) -> str:
        """Return an input line for `headrace predict` if `line` returns none for any row."""
        return "A fine film."

    def line(self, batch: Batch, row: int, data: DatasetInfo) -> str:
        """Return a row's input as a line that `parse` reads; empty if a line cannot hold it.

        By default, the text of the field `tokens` if the task does not define its own `parse`.
        """
        tokens, is_own = batch.columns.get("tokens"), type(self).parse is not Task.parse
        if tokens is None or is_own or "tokenizer" not in data.vocabularies:
            return ""
        return data.decode("tokenizer", tokens[row, : batch.lengths[row]].tolist())

    def make_metrics(self, settings: TaskSettings) -> list[Metric]:
        """Return the task's default metrics and those of `task.metrics`.

        Raises ConfigError if a library that evaluation imports is not installed.
        """
        names = dict.fromkeys([*self.default_metrics, *settings.metrics])
        classes = [components.load("metric", name) for name in names]
        needed = {self.best_metric: self.libraries}
        needed |= {name: c.libraries for name, c in zip(names, classes, strict=True)}
        missing = {
            library: metric
            for metric, libraries in needed.items()
            for library in libraries
            if find_spec(library) is None
        }
        if missing:
            computed = " and ".join(dict.fromkeys(missing.values()))
            raise ConfigError(
                f"task.name={settings.name}: computing {computed} needs {' and '.join(missing)} "
                f"(not installed); pip install {' '.join(missing)}"
            )
        metrics = [metric(settings, self.labels) for metric in classes]
        own = {"examples", *self.reported, *({self.best_metric} - {*self.default_metrics})}
        seen: set[str] = set()
        for name, metric in zip(names, metrics, strict=True):
            if metric.name in own | seen:
                raise ConfigError(
                    f"task.metrics: {name}: there is a metric of the name {metric.name} already; "
                    f"rename the class"
                )
            seen.add(metric.name)
        return metrics

    @staticmethod
    @abstractmethod
    def fields(corpus: Any) -> tuple[FieldSpec, ...]:
        """Return the raw columns that the task needs, in the order of the shards' columns.

        `corpus` is the section `corpus`. The first field is a list, whose length is that of the
        row.
        """

    @abstractmethod
    def build(self) -> nn.Module:
        """Build the model. Its weights are drawn from torch's global generator."""

    def prepare_batch(self, batch: Batch) -> Batch:
        """Add columns that `loss` needs, computed on the host, where no GPU has to be waited for.

        Training calls this in a thread, before the batch is moved to the device.
        """
        return batch

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return a batch's sums [len(self.sum_names)]; only the first, the loss, has a gradient."""

    @abstractmethod
    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        """Compute training metrics from sums over any number of batches."""

    @abstractmethod
    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return float64 outputs per row [B, F] or per token [B, T, F].

        `evaluate` and `predict` need nothing else from the model. The number of dimensions
        determines how the rows of a document that was split into several are merged: outputs per
        row are averaged, weighted by the rows' tokens; outputs per token are concatenated.
        """

    @abstractmethod
    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """Return sums and mistakes of a batch, in which each row is a whole document.

        The sums, such as counts and losses, are a float64 tensor of fixed size, to be added up over
        batches and ranks.
        """

    def scored(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the predictions and the targets of a batch, as `predicts` says.

        Each task that sets `predicts` defines this method; it is not called for others.
        """
        raise TypeError(f"{type(self).__name__} has no predictions for metrics")

    def row_values(self, outputs: Tensor, batch: Batch) -> Tensor:
        """Return a metric of each row [B], for reports that show its mean by length.

        Each task that sets `row_metric` defines this method; it is not called for others.
        """
        raise TypeError(f"{type(self).__name__} has no metric of one row")

    def texts_to_score(self, outputs: Tensor, batch: Batch) -> list[tuple[str, ...]]:
        """Return (generated text, reference, ...) per document, for corpus-level metrics.

        Such metrics, BLEU for one, cannot be computed from sums.
        """
        return []

    @abstractmethod
    def summarize(self, sums: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        """Compute an evaluation's metrics from the sums over all batches and all texts to score."""

    def resampled_rows(self, batch: Batch) -> Sequence[Tensor]:
        """Return the indices of the rows that the bootstrap resamples together: each row alone."""
        return torch.arange(len(batch.weights)).split(1)

    def displayable(self, batch: Batch) -> Tensor:
        """Return a mask [B] of the rows that may be selected for `samples`."""
        return batch.weights > 0

    def samples(self, model: nn.Module, batch: Batch) -> list[Sample]:
        """Return samples to display of the batch's rows, the same ones after each evaluation.

        If `samples_of_inputs` is set, the batch may lack the columns of targets.
        """
        return []

    @staticmethod
    def parse(line: str) -> dict[str, Any]:
        """Parse a line of user input into values of the input fields, by name.

        By default, the line is the text of the field `tokens`.
        """
        return {"tokens": line}

    @abstractmethod
    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return a prediction for each document, in a form to print as JSON.

        `given` are the documents' input values by field: as `parse` returned them for a line, or
        as the field's kind checked them for a row of a table.
        """

    def prediction_types(self) -> Mapping[str, Any]:
        """Return the type of each value that `predict` may return, by its name.

        A type is str, int or float; [type] for a list; a dict from name to type for an object with
        these keys; or `dict[str, float]` for an object with any keys. By default, nothing is known,
        and files of predictions have one column of JSON texts. A subclass that redefines `predict`
        defines this method again.
        """
        return {}
