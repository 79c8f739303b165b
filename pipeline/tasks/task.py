"""What the training loop asks of a task. A task knows no rank and no file.

Sums, not means, leave a task: the loop adds them up over batches and ranks, so that every figure
is exact whatever the number of ranks.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import ConfigError
from pipeline.models.settings import ModelSettings
from pipeline.stream.batch import Batch
from pipeline.tasks.sample import ImageData, Sample
from pipeline.tasks.settings import TaskSettings


@dataclass(frozen=True)
class Evaluation:
    """What came out of an evaluation."""

    metrics: dict[str, float]
    """By name; `examples` counts the documents, `loss` is a mean."""
    table: list[list[int]] = field(default_factory=list)
    """Counts of pairs, for a confusion matrix: table[true][predicted]."""
    labels: Sequence[str] = ()
    """What the rows and columns of the table stand for."""
    counted: str = "rows"
    """What is counted in it."""
    signatures: Mapping[str, str] = field(default_factory=dict)
    """How some of the metrics were counted, by their names, for those who compare them."""


@dataclass(frozen=True)
class Mistake:
    """A document that the model gets wrong."""

    loss: float
    tokens: list[int]
    """The text, or nothing if `shown` has it."""
    shown: dict[str, Any]
    """What a person wants to see beside it."""
    picture: ImageData | None = None
    """The document, if it is an image."""


class Contents(Protocol):
    """What a task knows of its dataset."""

    @property
    def fields(self) -> Sequence[FieldSpec]:
        """What the columns of its shards are."""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the corpus that it was made by."""

    @property
    def vocabularies(self) -> Mapping[str, int]:
        """How many tokens each vocabulary has."""

    @property
    def names(self) -> Mapping[str, Sequence[str]]:
        """What the indices in a field of labels or tags stand for."""

    def token_byte_lengths(self, vocabulary: str) -> Sequence[float]:
        """How many bytes of text each token of a vocabulary stands for, NaN where that cannot be
        told."""

    def decode(self, vocabulary: str, ids: Sequence[int]) -> str:
        """The text of some tokens of a vocabulary."""

    @property
    def counts(self) -> Mapping[str, Sequence[int]]:
        """In how many rows each of them stands, where that is known."""


class Task(ABC):
    """One kind of input-output relation."""

    sums: ClassVar[tuple[str, ...]]
    """Names of the sums that `loss` returns: the loss first, then what it is divided by."""
    best: str
    """The metric by which the best checkpoint is chosen."""
    lower_is_better = False
    """Whether that is the least, else the greatest."""
    prediction_overrides: Mapping[str, str] = MappingProxyType({})
    """Settings of the corpus that are others in prediction than in training."""
    libraries: ClassVar[tuple[str, ...]] = ()
    """What evaluation imports that not every installation has."""
    settings: TaskSettings
    per_row_fields: tuple[str, ...] = ()
    """Fields whose lists are of a whole text, such as its labels, with no item for each token."""
    stateful = False
    """Whether texts go on from one update to the next, and the task carries a state along."""

    @abstractmethod
    def __init__(self, settings: TaskSettings, model: ModelSettings, data: Contents) -> None: ...

    def check_libraries(self) -> None:
        """Raises ConfigError if one is missing that evaluation imports."""
        if missing := [name for name in self.libraries if find_spec(name) is None]:
            raise ConfigError(
                f"task.name={self.settings.name}: is judged by {self.best}, which needs "
                f"{' and '.join(missing)}, not installed here; pip install {' '.join(missing)}"
            )

    @staticmethod
    @abstractmethod
    def fields(corpus: CorpusSettings) -> tuple[FieldSpec, ...]:
        """The columns of the raw data that the task needs, in the order of the shards' columns."""

    @abstractmethod
    def build(self) -> nn.Module:
        """The model, its weights drawn from torch's global generator."""

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sums [len(self.sums)] of a batch; the first, the loss, carries the gradient."""

    @abstractmethod
    def metrics(self, sums: Sequence[float]) -> dict[str, float]:
        """Figures by name from sums over any number of batches."""

    @abstractmethod
    def outputs(self, model: nn.Module, batch: Batch) -> Tensor:
        """What the model says of each row [B, F], or of each token [B, T, F], in float64: all that
        `evaluate` and `predict` need of it.

        The shape says how a document that is several rows becomes one: what is said of rows is
        averaged, a row weighing as much as it has tokens; what is said of tokens is put end to end.
        """

    @abstractmethod
    def evaluate(self, outputs: Tensor, batch: Batch) -> tuple[Tensor, list[Mistake]]:
        """What evaluation adds up over batches and ranks, one float64 tensor of a fixed size, and
        the documents that the model gets wrong. Each row is a whole document."""

    def texts(self, outputs: Tensor, batch: Batch) -> list[tuple[str, ...]]:
        """What is judged as a whole, not added up: of each document what the model wrote, and all
        that would have been right."""
        return []

    @abstractmethod
    def evaluation(self, tally: Tensor, texts: Sequence[tuple[str, ...]] = ()) -> Evaluation:
        """The figures of an evaluation from its added-up tally and all its texts."""

    def showable(self, batch: Batch) -> Tensor:
        """Which rows [B] of a batch may be among those that `show` is given."""
        return batch.weights > 0

    def show(self, model: nn.Module, batch: Batch) -> list[Sample]:
        """What a person is shown of some rows, the same after each evaluation."""
        return []

    @staticmethod
    @abstractmethod
    def parse(line: str) -> dict[str, Any]:
        """A line that a person types, as values of the fields that prediction has, by name."""

    @abstractmethod
    def predict(self, outputs: Tensor, given: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """What a person wants to know of each document, `given` as `parse` left it."""
