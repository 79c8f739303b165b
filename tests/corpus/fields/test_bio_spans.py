"""Entities and F1 equal seqeval's on valid and invalid tags; rules and repairs agree with both."""

import random
import warnings
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import get_entities, precision_recall_fscore_support
from seqeval.scheme import IOB2, IOBES, Entities

from pipeline.corpus.fields import bio_spans
from pipeline.corpus.fields.bio_spans import Counts, Span

LABELS = ["PER", "LOC", "B-I", "_"]
NAMES: dict[bio_spans.Scheme, list[str]] = {
    "bio": ["O", "B", "I", *(f"{prefix}-{label}" for label in LABELS for prefix in "BI")],
    "bioes": ["O", *"BIES", *(f"{prefix}-{label}" for label in LABELS for prefix in "BIES")],
}
every_scheme = pytest.mark.parametrize("scheme", ["bio", "bioes"])


def drawn(scheme: bio_spans.Scheme, rows: int, seed: int) -> list[list[str]]:
    """Sequences of tags of few labels, so that neighbors often go together: most are invalid."""
    draw = random.Random(seed)
    return [draw.choices(draw.sample(NAMES[scheme], 5), k=draw.randint(1, 12)) for _ in range(rows)]


def valid(scheme: bio_spans.Scheme, rows: int, seed: int) -> list[list[str]]:
    """Walks along what is allowed, from the start to an end."""
    draw, names = random.Random(seed), NAMES[scheme]
    table, found = bio_spans.allowed(names), []
    while len(found) < rows:
        place, row = len(names), []
        while (place := draw.choice(np.flatnonzero(table[place]).tolist())) < len(names):
            row.append(names[place])
        if row:
            found.append(row)
    return found


both_kinds = pytest.mark.parametrize("sequences", [drawn, valid])
Sequences = Callable[[bio_spans.Scheme, int, int], list[list[str]]]


@every_scheme
@both_kinds
def test_entities_are_those_of_seqeval(scheme: bio_spans.Scheme, sequences: Sequences) -> None:
    for tags in sequences(scheme, 5000, 0):
        expected = [Span(label, start, last + 1) for label, start, last in get_entities(tags)]
        assert bio_spans.spans(tags) == expected, tags


@every_scheme
@both_kinds
def test_scores_are_those_of_seqeval(scheme: bio_spans.Scheme, sequences: Sequences) -> None:
    for seed in range(300):
        true = sequences(scheme, 10, seed)
        other = drawn(scheme, 10, seed + 1000)
        draw = random.Random(seed)
        predicted = [
            [draw.choice([t, t, o]) for t, o in zip(row, row[:1] + line * 100, strict=False)]
            for row, line in zip(true, other, strict=True)
        ]
        counts = bio_spans.count(zip(true, predicted, strict=True))
        scores = bio_spans.f1(counts)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what has no denominator
            micro = precision_recall_fscore_support(true, predicted, average="micro")
            each = precision_recall_fscore_support(true, predicted, average=None)
        assert (scores.precision, scores.recall) == tuple(micro[:2])
        assert scores.f1 == pytest.approx(micro[2], abs=1e-15)
        assert list(scores.labels) == sorted(counts)
        assert list(scores.labels.values()) == pytest.approx(list(each[2]), abs=1e-15)
        assert [counts[label].true for label in sorted(counts)] == list(each[3])
        assert [counts[label].precision for label in sorted(counts)] == list(each[0])
        assert [counts[label].recall for label in sorted(counts)] == list(each[1])


@every_scheme
def test_valid_tags_have_one_reading_strict_or_lenient(scheme: bio_spans.Scheme) -> None:
    for tags in valid(scheme, 3000, 1):
        assert bio_spans.check(tags, scheme) == ""
        strict = Entities([tags], IOB2 if scheme == "bio" else IOBES).entities[0]
        assert bio_spans.spans(tags) == [Span(e.tag or "_", e.start, e.end) for e in strict]


@every_scheme
@both_kinds
def test_check_and_allowed_agree(scheme: bio_spans.Scheme, sequences: Sequences) -> None:
    names = NAMES[scheme]
    table, end = bio_spans.allowed(names), len(names) + 1
    assert table.shape == (end + 1, end + 1)
    assert table.dtype == bool
    assert not table[end].any()
    assert not table[:, end - 1].any()
    assert not table[end - 1, end]
    for tags in sequences(scheme, 3000, 2):
        places = [end - 1, *map(names.index, tags), end]
        steps = pairwise(places)
        assert (bio_spans.check(tags, scheme) == "") == all(table[step] for step in steps)


@every_scheme
@both_kinds
def test_written_anew_the_entities_are_the_same_and_the_tags_valid(
    scheme: bio_spans.Scheme, sequences: Sequences
) -> None:
    for tags in sequences(scheme, 3000, 3):
        entities = bio_spans.spans(tags)
        again = bio_spans.written(entities, len(tags), scheme)
        assert bio_spans.check(again, scheme) == ""
        assert bio_spans.spans(again) == entities
        if bio_spans.check(tags, scheme) == "":
            assert [t.removesuffix("-_") for t in tags] == again


@pytest.mark.parametrize(
    "tags, scheme, reason",
    [
        ("O I-X", "bio", "token 2: I-X after O"),
        ("I-X O", "bio", "token 1: I-X at the start"),
        ("B-X I-Y", "bio", "token 2: I-Y after B-X"),
        ("B-X I-X B-X O", "bio", ""),
        ("B-X O", "bioes", "token 2: O after B-X"),
        ("O B-X", "bioes", "token 2: B-X at the end"),
        ("S-X E-X", "bioes", "token 2: E-X after S-X"),
        ("S-X B-X I-X E-X", "bioes", ""),
        ("", "bioes", ""),
    ],
)
def test_what_is_wrong_is_said(tags: str, scheme: bio_spans.Scheme, reason: str) -> None:
    assert bio_spans.check(tags.split(), scheme) == reason


@pytest.mark.parametrize(
    "names, scheme",
    [
        ("O B-PER I-PER", "bio"),
        ("B-NP I-NP", "bio"),
        ("I-LOC O", "bio"),
        ("B I", "bio"),
        ("O S-X", "bioes"),
        ("B I E S", "bioes"),
        ("O", ""),
        ("NOUN VERB", ""),
        ("O B-PER VERB", ""),
        ("O B-PER L-PER", ""),
        ("O-X B-X", ""),
        ("B-", ""),
        ("", ""),
    ],
)
def test_the_scheme_is_known_by_the_names(names: str, scheme: bio_spans.Scheme) -> None:
    assert bio_spans.scheme(names.split()) == scheme


def test_tags_of_no_scheme_may_follow_each_other_and_have_no_entities() -> None:
    table = bio_spans.allowed(["NOUN", "VERB"])
    assert table.astype(int).tolist() == [[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]
    with pytest.raises(ValueError, match="the tag 'NOUN' is neither O nor B-X"):
        bio_spans.spans(["NOUN"])


def test_iob1_is_read_rightly() -> None:
    tags = ["I-X", "I-X", "B-X", "O", "I-Y", "I-X"]
    entities = [Span("X", 0, 2), Span("X", 2, 3), Span("Y", 4, 5), Span("X", 5, 6)]
    assert bio_spans.spans(tags) == entities
    assert bio_spans.written(entities, 6, "bio") == ["B-X", "I-X", "B-X", "O", "B-Y", "B-X"]
    assert bio_spans.labels(tags) == ["X", "Y"]


def test_nothing_there_and_nothing_found_is_zero() -> None:
    assert bio_spans.f1(bio_spans.count([(["O"], ["O"])])) == bio_spans.Scores(0.0, 0.0, 0.0)
    assert bio_spans.count([(["B-X"], ["O"]), (["B-X"], ["B-X"])]) == {"X": Counts(2, 1, 1)}
