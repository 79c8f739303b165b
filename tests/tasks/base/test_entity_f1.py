"""Entity scores equal seqeval's on valid and invalid tags."""

import random
import warnings

import pytest
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support

from pipeline.corpus.fields import bio_spans
from pipeline.tasks.base import entity_f1
from pipeline.tasks.base.entity_f1 import Counts
from tests.corpus.fields.test_bio_spans import (
    Sequences,
    every_scheme,
    random_tags,
    valid_and_random,
)


@every_scheme
@valid_and_random
def test_scores_equal_seqeval(scheme: bio_spans.Scheme, sequences: Sequences) -> None:
    for seed in range(300):
        true = sequences(scheme, 10, seed)
        noise = random_tags(scheme, 10, seed + 1000)
        rng = random.Random(seed)
        predicted = [
            [rng.choice([t, t, n]) for t, n in zip(row, row[:1] + line * 100, strict=False)]
            for row, line in zip(true, noise, strict=True)
        ]
        counts = entity_f1.count(zip(true, predicted, strict=True))
        scores = entity_f1.f1(counts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about scores whose denominator is 0
            micro = precision_recall_fscore_support(true, predicted, average="micro")
            by_label = precision_recall_fscore_support(true, predicted, average=None)
        assert (scores.precision, scores.recall) == tuple(micro[:2])
        assert scores.f1 == pytest.approx(micro[2], abs=1e-15)
        assert list(scores.labels) == sorted(counts)
        assert list(scores.labels.values()) == pytest.approx(list(by_label[2]), abs=1e-15)
        assert [counts[label].true for label in sorted(counts)] == list(by_label[3])
        assert [counts[label].precision for label in sorted(counts)] == list(by_label[0])
        assert [counts[label].recall for label in sorted(counts)] == list(by_label[1])


def test_scores_without_any_entity_are_zero() -> None:
    assert entity_f1.f1(entity_f1.count([(["O"], ["O"])])) == entity_f1.Scores(0.0, 0.0, 0.0)
    assert entity_f1.count([(["B-X"], ["O"]), (["B-X"], ["B-X"])]) == {"X": Counts(2, 1, 1)}
