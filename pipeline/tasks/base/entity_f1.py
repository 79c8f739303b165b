"""Precision, recall and F1 over entities, as seqeval and conlleval compute them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.corpus.fields.bio_spans import spans


@dataclass(frozen=True)
class Counts:
    """Numbers of true, predicted and correctly predicted entities.

    A predicted entity is correct if its label, start and stop are those of a true entity.
    """

    true: int = 0
    predicted: int = 0
    correct: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.true + other.true,
            self.predicted + other.predicted,
            self.correct + other.correct,
        )

    @property
    def precision(self) -> float:
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        return self.correct / self.true if self.true else 0.0

    @property
    def f1(self) -> float:
        total = self.true + self.predicted
        return 2 * self.correct / total if total else 0.0


@dataclass(frozen=True)
class Scores:
    """Micro-averaged scores over all entities, and F1 by label, in sorted order."""

    precision: float
    recall: float
    f1: float
    labels: dict[str, float] = field(default_factory=dict)


def count(rows: Iterable[tuple[Sequence[str], Sequence[str]]]) -> dict[str, Counts]:
    """Count the entities of each label. A row is a pair of its true and its predicted tags."""
    counts: dict[str, Counts] = {}
    for row in rows:
        true, predicted = (set(spans(tags)) for tags in row)
        for span in true | predicted:
            entity = Counts(span in true, span in predicted, span in true and span in predicted)
            counts[span.label] = counts.get(span.label, Counts()) + entity
    return counts


def f1(counts: Mapping[str, Counts]) -> Scores:
    """Compute the scores from the counts by label. A score whose denominator is 0 is 0."""
    total = sum(counts.values(), Counts())
    by_label = {label: counts[label].f1 for label in sorted(counts)}
    return Scores(total.precision, total.recall, total.f1, by_label)
