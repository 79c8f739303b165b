"""Label names: spellings of one label, given names, numbers of labels, warnings."""

import json
import math
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import as_text
from pipeline.corpus.fields.label_names import (
    MAX_LABELS,
    LabelTable,
    NameIndex,
    label_key,
    name_labels,
    shorten,
)
from pipeline.corpus.prepare.prepare import prepare, prepare_with_summary
from pipeline.corpus.skip_reason import Tally
from pipeline.errors import InputError
from tests.helpers.files import FIELDS, settings_in, write
from tests.helpers.settings import corpus_settings

LABEL, TAGS = FieldSpec("label", "label", "label"), FieldSpec("label", "label", "tags")
COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def settings(**changes: Any) -> Any:
    return corpus_settings(**({"input": ["a.csv"], "shards": "x"} | changes))


def table(values: list[Any], field: FieldSpec = LABEL, **changes: Any) -> LabelTable:
    """Name the labels of one file with these raw values."""
    counts = Counter(map(as_text, values))
    first = {label: row for row, label in reversed(list(enumerate(map(as_text, values), 1)))}
    tallies = {label: Tally(count, f"a.csv, row {first[label]}") for label, count in counts.items()}
    return name_labels(settings(**changes), [tallies], field)


@pytest.mark.parametrize(
    "values, names, counts",
    [
        ([0, 1, 0.0, 1.0, "1", "0.0", b"1"], ["0", "1"], [3, 4]),
        ([True, "True", "TRUE", "true", False, "false"], ["false", "true"], [2, 4]),
        ([1, 1, True, True], ["1", "true"], [2, 2]),
        ([COMPOSED, DECOMPOSED, DECOMPOSED, "a", "a"], ["a", COMPOSED], [2, 3]),
        (["01", "01", "1", "1", "+1", "+1"], ["+1", "01", "1"], [2, 2, 2]),
        (["0.", "0", "1.", 1], ["0", "1"], [2, 2]),  # as NumPy prints numbers
        (["1.50", "1.50", "1.5", "1.5"], ["1.5", "1.50"], [2, 2]),
        ([Decimal("2.00"), 2, 3, 3], ["2", "3"], [2, 2]),
        (["-1", -1.0, "0", -0.0], ["-1", "0"], [2, 2]),
        # One spelling is kept as it is written.
        (["1.0", "1.0", "0.0", "0.0"], ["0.0", "1.0"], [2, 2]),
        (["True", "False"] * 2, ["False", "True"], [2, 2]),
        ([DECOMPOSED] * 2 + ["a"] * 2, ["a", COMPOSED], [2, 2]),
    ],
    ids=str,
)
def test_spellings_of_a_label_are_one(values: list[Any], names: list[str], counts: Any) -> None:
    named = table(values)
    assert (named.names, named.counts) == (names, counts)
    ids = [named.ids[as_text(value)] for value in values]
    assert [ids.count(index) for index in range(len(names))] == counts


def test_a_label_that_occurs_once_in_each_of_two_spellings_is_kept() -> None:
    named = table([1, "1.0", "x", 2, 2])
    assert (named.names, named.once) == (["1", "2"], {"x": "a.csv, row 3"})


def test_spellings_are_reported() -> None:
    notes = table([1, "1.0", "1.0", 2, 2, COMPOSED, DECOMPOSED]).notes
    assert notes[0] == "one label '1' is written in 2 ways: '1' 1, '1.0' 2"
    assert (
        notes[1]
        == f"1 label(s) were converted to Unicode NFC, first {DECOMPOSED!r} at a.csv, row 7"
    )
    assert table(["a", "b"] * 2).notes == []


@pytest.mark.parametrize(
    "names, values, expected",
    [
        (["False", "True"], [False, "True", "TRUE", "false"], [0, 1, 1, 0]),
        (["1.0", "2.0"], ["1.0", 1, 2.0, "2"], [0, 0, 1, 1]),
        (["1", "1.0"], ["1", "1.0"], [0, 1]),  # as written
        (["bad", "good"], [0, "1", 1.0, "0.0", "good"], [0, 1, 1, 0, 1]),
        (["2", "1"], [1, "2.0"], [1, 0]),  # numbers that are names are no indices
        ([DECOMPOSED, "a"], [COMPOSED, DECOMPOSED, "a"], [0, 0, 1]),
        ({1: "World", 2: "Sports"}, [1, "2", 2.0, "World"], [0, 1, 1, 0]),
        ({1: "bad", 2: "bad", 3: "good"}, [1, 2, 3], [0, 0, 1]),
        ({"a": "b", "b": "a"}, ["a", "b"], [0, 1]),
        ({True: "yes", False: "no"}, ["True", False], [0, 1]),
    ],
    ids=str,
)
def test_given_names(names: Any, values: list[Any], expected: list[int]) -> None:
    named = table(values, label_names=names)
    assert [named.ids[as_text(value)] for value in values] == expected
    index = NameIndex(named.names, settings(label_names=names))
    assert [index[as_text(value)] for value in values] == expected
    assert [index[as_text(value)] for value in values] == expected  # from the cache


def test_numbers_of_names_that_no_setting_lists_are_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In evaluation, a number may count the names that were found in the training input."""
    index = NameIndex(["ham", "spam"], settings())
    assert [index.find(label) for label in ("ham", "spam", "2")] == [0, 1, None]
    assert caplog.text == ""
    assert [index.find(label) for label in ("1", "0", "1.0")] == [1, 0, 1]
    assert caplog.text.count("label '1' is read as 'spam', the name with this index in ham,") == 1
    assert caplog.text.count("is read as") == 1
    for names in (["ham", "spam"], {"0": "ham", "1": "spam"}):
        caplog.clear()
        assert NameIndex(["ham", "spam"], settings(label_names=names)).find("1") == 1
        assert caplog.text == ""


def test_labels_are_counted_from_the_base() -> None:
    named = table([1, "2", 3.0, "b"], label_names=["a", "b", "c"], label_base=1)
    assert [named.ids[label] for label in ("1", "2", "3.0", "b")] == [0, 1, 2, 1]
    assert not named.warnings


def test_a_base_that_does_not_fit_is_refused_with_the_right_one() -> None:
    names = ["World", "Sports", "Business", "Science"]
    line = (
        r"a\.csv, row 4: label '4' is not in .* and is not an index 0\.\.3; .* corpus\.label_base=1"
    )
    with pytest.raises(InputError, match=line):
        table([1, 2, 3, 4], label_names=names)
    with pytest.raises(
        InputError, match=r"label '0' .* 1\.\.4; .*0\.\.3: set corpus\.label_base=0"
    ):
        table([1, 2, 3, 0], label_names=names, label_base=1)
    with pytest.raises(InputError, match=r"label '9' .*; add it there, set a map"):
        table([1, 9], label_names=names)
    with pytest.raises(InputError, match=r"label 'x' .*; add it there"):
        table([1, "x"], label_names=names)
    with pytest.raises(InputError, match=r"label '3' is not in corpus\.label_names \(a, b\); add"):
        table([1, 3], label_names={1: "a", 2: "b"})


def test_names_without_rows_are_warned_of() -> None:
    names = ["World", "Sports", "Business", "Science"]
    (warning,) = table([1, 2, 3], label_names=names).warnings
    assert warning == (
        "corpus.label_names: no row has the label World; the labels are 1..3: if World is 1, set "
        "corpus.label_base=1"
    )
    (warning,) = table(["World", "Sports"], label_names=names).warnings
    assert warning == "corpus.label_names: no row has the label Business, Science"
    assert table([0, 1, 2, 3], label_names=names).warnings == []


def test_numbers_of_tags_without_names_are_warned_of() -> None:
    (warning,) = table([0, 1, 2, 0], TAGS).warnings
    assert "the tags are numbers, so entities are not scored; list their names" in warning
    assert table([0, 1, 2, 0], TAGS, label_names=["O", "B-X", "I-X"]).warnings == []
    assert table(["O", "1"], TAGS).warnings == table([0, 1, 0, 1]).warnings == []


def test_a_huge_number_is_no_index() -> None:
    with pytest.raises(InputError, match="label '9999"):
        table([0, "9" * 5000], label_names=["a", "b"])
    assert label_key("9" * 5000 + ".0") == "9" * 5000


def test_too_many_labels() -> None:
    with pytest.raises(InputError, match="the input has 100,001 different labels, more than 100,0"):
        table([f"n{number}" for number in range(MAX_LABELS + 1)])


def test_a_message_lists_the_first_names() -> None:
    assert shorten(["a", "b"]) == "a, b"
    assert shorten(["n"] * 1012) == ", ".join(["n"] * 10) + " and 1,002 more"


def test_lookups_of_many_names_are_fast() -> None:
    index = NameIndex([f"n{number}" for number in range(MAX_LABELS)])
    assert [index[f"{number}.0"] for number in range(0, MAX_LABELS, 10)] == list(
        range(0, MAX_LABELS, 10)
    )
    with pytest.raises(InputError, match=r"a label: label 'x' is not in .*n9 and 99,990 more"):
        index["x"]


def jsonl(path: Path, labels: list[Any]) -> None:
    rows = ({"text": f"a text n{n}", "label": label} for n, label in enumerate(labels))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_file_with_mixed_spellings(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", [0, 1, 0.0, 1.0, "1", None, math.nan, "0.0"] * 10)
    changes = {"input": "a.jsonl", "max_skipped_ratio": 0.5}
    manifest, summary = prepare_with_summary(settings_in(tmp_path, **changes), FIELDS)
    assert (manifest.names["label"], manifest.counts["label"]) == (("0", "1"), (30, 30))
    assert manifest.report["no_label"] == 20
    assert any("label: one label '1' is written in 2 ways" in line for line in summary)


LABELS = FieldSpec("label", "label", "labels")


@pytest.mark.parametrize(
    "values, separator",
    [
        (["a", "b", "a|b", "b|a"], "|"),
        (["a", "b", "a; b"], ";"),
        (["x y", "z", "x y, z"], ","),
        (["a", "b", "a b"], " "),
        (["a;b", "b;c", "a", "c"], ";"),
        (["a/b", "b/c", "a/c"], ""),  # the separator that is set
        (["a|b", "b|c", "a|c"], "|"),
        (["a", "b", "a|c"], ""),
        (["red wine", "white wine", "red meat", "white meat"], ""),
        (["New York", "York", "New Jersey", "Jersey"], ""),
        (["a", "b"], ""),
    ],
)
def test_labels_that_consist_of_others_are_reported(values: list[Any], separator: str) -> None:
    keys: dict[str, Any] = {"label_separator": "/"}
    found = table(values, LABELS, **keys).warnings
    expected = f"if {separator!r} separates labels, set corpus.label_separator={separator!r}"
    assert [line.endswith(expected) for line in found] == [True] * bool(separator)


def test_filters_match_all_spellings(tmp_path: Path) -> None:
    rows = [
        {"text": f"n{n}", "label": "ab"[n % 2], "use": [1, 1.0, "1", 0][n % 4]} for n in range(80)
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = prepare(settings_in(tmp_path, input="a.jsonl", filters={"use": "1"}), FIELDS)
    assert manifest.report["filtered"] == 20


def test_preparing_warns_of_names_without_rows(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"text": f"a text n{n}", "label": n % 3 + 1} for n in range(60)]
    write(tmp_path / "a.csv", rows)
    manifest = prepare(settings_in(tmp_path, label_names=["a", "b", "c", "d"]), FIELDS)
    assert manifest.counts["label"] == (0, 20, 20, 20)
    assert "no row has the label a; the labels are 1..3: if a is 1, set" in caplog.text


def test_more_labels_than_signed_16_bits_hold(tmp_path: Path) -> None:
    """33,000 labels, of two rows each: all of them are kept, and each row keeps its own."""
    count = 33_000
    lines = [f"a text n{n},L{n % count}\n" for n in range(2 * count)]
    (tmp_path / "a.csv").write_text("text,label\n" + "".join(lines))
    changes = {"rows_per_block": 4096, "shard_mb": 64, "chunk_mb": 8, "validation": 0.01}
    manifest = prepare(settings_in(tmp_path, **changes), FIELDS)
    assert len(manifest.names["label"]) == count
    assert manifest.report["label_once"] == 0
    assert sum(split.rows for split in manifest.splits.values()) == 2 * count
    assert set(manifest.counts["label"]) == {2}
