"""Raw values of each field kind: what a valid value becomes, and why others are skipped."""

from typing import Any

import pytest

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.skip_reason import SkipReason
from tests.helpers.settings import corpus_settings

NUL, SURROGATE = "a\0b", "caf\udce9"
NOT_LISTS_OF_WORDS = [
    None,
    "",
    " ",
    [],
    ["a", ""],
    ["a", " "],
    ["a", None],
    [["a"]],
    float("nan"),
    {"a": 1},
    ("a",),
]


def check(kind: Any, value: Any) -> Any:
    settings = corpus_settings(input=["a.conll"], shards="shards")
    spec = FieldSpec("x", "x", kind)
    return spec.kind_class(spec, settings).check(value)


@pytest.mark.parametrize(
    "kind, value, expected",
    [
        ("text", " A text. ", " A text. "),
        ("words", ["New York", "is", "—"], ["New York", "is", "—"]),
        ("words", " New  York\tis ", ["New", "York", "is"]),
        ("words", ["a\nb"], ["a\nb"]),
        ("characters", ["New York"], ["New York"]),  # a list of words; characters are encoded later
        ("tags", "O B-X I-X", ["O", "B-X", "I-X"]),
        ("tags", ["B-X", "E-X", "S-Y"], ["B-X", "E-X", "S-Y"]),
        ("tags", ["DET", "I", "NOUN"], ["DET", "I", "NOUN"]),  # not BIO because of DET
        ("label", " fine ", "fine"),
        ("label", 3, "3"),
        ("label", True, "true"),
    ],
)
def test_valid_values_are_converted(kind: str, value: Any, expected: Any) -> None:
    assert check(kind, value) == expected


@pytest.mark.parametrize(
    "kind, value, reason",
    [
        *(("text", value, SkipReason.NO_TEXT) for value in (None, "", " \n", ["a"], {"a": 1})),
        *(("words", value, SkipReason.NO_WORDS) for value in NOT_LISTS_OF_WORDS),
        *(("characters", value, SkipReason.NO_WORDS) for value in NOT_LISTS_OF_WORDS),
        *(("tags", value, SkipReason.NO_TAGS) for value in NOT_LISTS_OF_WORDS),
        *(("label", value, SkipReason.NO_LABEL) for value in (None, "", " ", float("nan"))),
        *(
            ("tags", value, SkipReason.NOT_BIO)
            # neither valid BIO nor valid BIOES; all tags of "I" have a prefix of these schemes
            for value in ("I-X", "O I-X", "B-X I-Y", "B-X E-Y", "I")
        ),
        *((kind, NUL, SkipReason.NUL) for kind in ("text", "words", "characters", "tags", "label")),
        *(
            (kind, SURROGATE, SkipReason.NOT_UTF8)
            for kind in ("text", "words", "characters", "tags", "label")
        ),
        ("words", ["a", SURROGATE], SkipReason.NOT_UTF8),
        ("tags", ["a", NUL], SkipReason.NUL),
    ],
)
def test_invalid_values_are_skipped(kind: str, value: Any, reason: SkipReason) -> None:
    assert check(kind, value) is reason
