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
        ("tags", ["I-X", "DET"], ["I-X", "DET"]),  # only the whole corpus shows the scheme
        ("tags", [" B-X ", 3, 1.0], ["B-X", "3", "1.0"]),
        ("tags", "O\u00a0X O", ["O\u00a0X", "O"]),
        ("words", "10\u00a0000 \u3000 \u00a0 people", ["10\u00a0000", "people"]),
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
        *(("tags", [value], SkipReason.NO_TAGS) for value in (float("nan"), None)),
        *(("label", value, SkipReason.NO_LABEL) for value in (None, "", " ", float("nan"))),
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


@pytest.mark.parametrize(
    "value, expected",
    [
        ([0, 1, 2], ["O", "B-X", "I-X"]),
        ("0 2 0", ["O", "I-X", "O"]),
        (["0", "3"], ["O", "3"]),  # no name has the index 3
        (["O", "0", "I-X"], ["O", "0", "I-X"]),  # a row of names has no indices
    ],
)
def test_tags_may_be_indices_of_label_names(value: Any, expected: list[str]) -> None:
    settings = corpus_settings(input=["a.conll"], shards="shards", label_names=["O", "B-X", "I-X"])
    spec = FieldSpec("x", "x", "tags")
    assert spec.kind_class(spec, settings).check(value) == expected


@pytest.mark.parametrize(
    "values, expected",
    [
        (["a", "b"], "a|b"),
        (["a", None, " ", b"b", 2019, 1.5, float("nan"), True], "a|b|2019|1.5|true"),
        (["a", []], "a"),
        (["a", ["b"]], SkipReason.NO_TEXT),
        (["a", {"b": 1}], SkipReason.NO_TEXT),
        ([None, ""], SkipReason.NO_TEXT),
        (["a", b"\xff"], SkipReason.NOT_UTF8),
    ],
)
def test_text_columns_are_joined(values: list[Any], expected: Any) -> None:
    columns = tuple(map(str, range(len(values))))
    settings = corpus_settings(input=["a.csv"], shards="shards", join="|")
    kind = FieldSpec("x", columns, "text").kind_class(FieldSpec("x", columns, "text"), settings)
    assert kind.check(kind.combine(dict(zip(columns, values, strict=True)))) == expected
