"""Spans equal seqeval's on valid and invalid tags; `check`, `allowed` and `to_tags` agree."""

import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from seqeval.metrics.sequence_labeling import get_entities
from seqeval.scheme import IOB2, IOBES, Entities

from pipeline.corpus.fields import bio_spans
from pipeline.corpus.fields.bio_spans import Span

LABELS = ["PER", "LOC", "B-I", "_"]
NAMES: dict[bio_spans.Scheme, list[str]] = {
    "bio": ["O", "B", "I", *(f"{prefix}-{label}" for label in LABELS for prefix in "BI")],
    "bioes": ["O", *"BIES", *(f"{prefix}-{label}" for label in LABELS for prefix in "BIES")],
}
every_scheme = pytest.mark.parametrize("scheme", ["bio", "bioes"])


def random_tags(scheme: bio_spans.Scheme, rows: int, seed: int) -> list[list[str]]:
    """Tag sequences, mostly invalid; each uses few tags, so that adjacent ones often match."""
    rng = random.Random(seed)
    return [rng.choices(rng.sample(NAMES[scheme], 5), k=rng.randint(1, 12)) for _ in range(rows)]


def valid_tags(scheme: bio_spans.Scheme, rows: int, seed: int) -> list[list[str]]:
    """Tag sequences that follow random allowed transitions from the start to the end."""
    rng, names = random.Random(seed), NAMES[scheme]
    table = bio_spans.allowed(names)
    sequences: list[list[str]] = []
    while len(sequences) < rows:
        tag, row = len(names), []
        while (tag := rng.choice(np.flatnonzero(table[tag]).tolist())) < len(names):
            row.append(names[tag])
        if row:
            sequences.append(row)
    return sequences


valid_and_random = pytest.mark.parametrize("sequences", [random_tags, valid_tags])
Sequences = Callable[[bio_spans.Scheme, int, int], list[list[str]]]


@every_scheme
@valid_and_random
def test_spans_equal_seqeval(scheme: bio_spans.Scheme, sequences: Sequences) -> None:
    for tags in sequences(scheme, 5000, 0):
        expected = [Span(label, start, last + 1) for label, start, last in get_entities(tags)]
        assert bio_spans.spans(tags) == expected, tags


@every_scheme
def test_valid_tags_have_the_same_spans_in_strict_mode(scheme: bio_spans.Scheme) -> None:
    for tags in valid_tags(scheme, 3000, 1):
        assert bio_spans.check(tags, scheme) == ""
        strict = Entities([tags], IOB2 if scheme == "bio" else IOBES).entities[0]
        assert bio_spans.spans(tags) == [Span(e.tag or "_", e.start, e.end) for e in strict]


@every_scheme
@valid_and_random
def test_check_accepts_exactly_the_allowed_transitions(
    scheme: bio_spans.Scheme, sequences: Sequences
) -> None:
    names = NAMES[scheme]
    table, end = bio_spans.allowed(names), len(names) + 1
    assert table.shape == (end + 1, end + 1)
    assert table.dtype == bool
    assert not table[end].any()
    assert not table[:, end - 1].any()
    assert not table[end - 1, end]
    for tags in sequences(scheme, 3000, 2):
        transitions = pairwise([end - 1, *map(names.index, tags), end])
        assert (bio_spans.check(tags, scheme) == "") == all(table[pair] for pair in transitions)


@every_scheme
@valid_and_random
def test_to_tags_returns_valid_tags_with_the_same_spans(
    scheme: bio_spans.Scheme, sequences: Sequences
) -> None:
    for tags in sequences(scheme, 3000, 3):
        entities = bio_spans.spans(tags)
        rebuilt = bio_spans.to_tags(entities, len(tags), scheme)
        assert bio_spans.check(rebuilt, scheme) == ""
        assert bio_spans.spans(rebuilt) == entities
        if bio_spans.check(tags, scheme) == "":
            assert [tag.removesuffix("-_") for tag in tags] == rebuilt


@pytest.mark.parametrize(
    "tags, scheme, message",
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
def test_check_names_the_first_invalid_token(
    tags: str, scheme: bio_spans.Scheme, message: str
) -> None:
    assert bio_spans.check(tags.split(), scheme) == message


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
def test_scheme_is_inferred_from_the_tag_set(names: str, scheme: bio_spans.Scheme) -> None:
    assert bio_spans.scheme(names.split()) == scheme


def test_tags_without_a_scheme_have_no_restrictions_and_no_spans() -> None:
    table = bio_spans.allowed(["NOUN", "VERB"])
    assert table.astype(int).tolist() == [[1, 1, 0, 1], [1, 1, 0, 1], [1, 1, 0, 0], [0, 0, 0, 0]]
    with pytest.raises(ValueError, match="the tag 'NOUN' is neither O nor B-X"):
        bio_spans.spans(["NOUN"])


def test_iob1_tags_are_read_correctly() -> None:
    tags = ["I-X", "I-X", "B-X", "O", "I-Y", "I-X"]
    entities = [Span("X", 0, 2), Span("X", 2, 3), Span("Y", 4, 5), Span("X", 5, 6)]
    assert bio_spans.spans(tags) == entities
    assert bio_spans.to_tags(entities, 6, "bio") == ["B-X", "I-X", "B-X", "O", "B-Y", "B-X"]
    assert bio_spans.labels(tags) == ["X", "Y"]
