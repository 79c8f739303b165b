"""Tags of a file that is read once are converted to the scheme of known names."""

import logging
from collections.abc import Sequence

import pytest

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import tag_conversion
from pipeline.corpus.fields.example import Example, RowChecker
from pipeline.corpus.fields.tag_conversion import TagConverter
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason
from pipeline.tasks.tagging import Tagging
from tests.helpers.settings import corpus_settings

FIELDS = [FieldSpec("tokens", "words", "words"), FieldSpec("tags", "tags", "tags")]
BIO = ("O", "B-X", "I-X")


def converted(rows: Sequence[str], names: Sequence[str] = BIO) -> list[str]:
    """Return the tags of each row after conversion, or the reason why it is skipped."""
    checker = RowChecker.of(corpus_settings(input=["a.conll"], shards="shards"), FIELDS)
    raw = [
        Row(n, {"words": ["w"] * len(tags.split()), "tags": tags}) for n, tags in enumerate(rows)
    ]
    checked = ((row, checker.check(row, "a.conll")) for row in raw)
    found = list(TagConverter(checker.fields, {"tags": names}).convert(checked, "a.conll"))
    assert [row for row, _ in found] == raw
    return [
        " ".join(example.values[1]) if isinstance(example, Example) else example.value
        for _, example in found
    ]


@pytest.mark.parametrize(
    "rows",
    [["B-X I-X O", "B-X B-X"], ["I-X I-X O", "I-X B-X"], ["B-X L-X O", "U-X U-X"]],
    ids=["bio", "iob1", "bilou"],
)
def test_tags_become_those_of_the_known_names(rows: list[str]) -> None:
    assert converted(rows) == ["B-X I-X O", "B-X B-X"]
    assert converted(rows, ("O", "B-X", "I-X", "E-X", "S-X")) == ["B-X E-X O", "S-X S-X"]


def test_invalid_rows_are_skipped_and_unknown_labels_stay() -> None:
    rows = ["B-X I-X", "B-Y", "I-X", "O 0", ""]
    expected = ["B-X I-X", "B-Y", SkipReason.NOT_BIO, SkipReason.STRAY_TAG, SkipReason.NO_WORDS]
    assert converted(rows) == expected


def test_plain_names_stay_as_they_are() -> None:
    rows = ["I-X O", "0", "U-X"]
    assert converted(rows, ("DET", "I-X", "0")) == rows
    assert converted(rows, ()) == rows


def test_only_the_first_rows_show_the_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tag_conversion, "MAX_ROWS", 3)
    rows = ["B-X", "O", "B-X", *["I-X"] * 5]
    assert converted(rows) == ["B-X", "O", "B-X", *[SkipReason.NOT_BIO] * 5]
    assert converted(rows[::-1]) == ["B-X"] * 6 + ["O", "B-X"]


def test_a_conversion_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    converted(["I-X"])
    assert caplog.messages == ["a.conll: tag scheme: IOB1, converted to BIO"]
    caplog.clear()
    converted(["B-X"])
    assert caplog.messages == []


def test_prediction_divides_words_as_files_do() -> None:
    assert Tagging.parse("10\u00a0000 people\t. \u00a0 ")["tokens"] == [
        "10\u00a0000",
        "people",
        ".",
    ]
