"""Several labels per row, as names, maps, vectors and texts of them; tags as numbers and lists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import EncodingContext
from pipeline.corpus.fields.label_names import NameIndex
from pipeline.corpus.prepare.prepare import prepare
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import row_dicts, settings_in
from tests.helpers.settings import corpus_settings

NAMES = ["toxic", "insult", "threat"]
TEXT, LABELS = FieldSpec("tokens", "text", "text"), FieldSpec("labels", "label", "labels")


def check(kind: str, value: Any, **changes: Any) -> Any:
    field = FieldSpec("x", "x", kind)
    settings = corpus_settings(input=["a.csv"], shards="x", **changes)
    return field.kind_class(field, settings).check(value)


@pytest.mark.parametrize(
    "value, expected",
    [
        ("toxic, insult", ["toxic", "insult"]),
        (b"toxic,insult", ["toxic", "insult"]),
        ("['toxic', 'insult']", ["toxic", "insult"]),
        ('["toxic"]', ["toxic"]),
        ("['toxic' 'insult']", ["toxic", "insult"]),
        ("{toxic,insult}", ["toxic", "insult"]),
        ("[toxic, very insulting]", ["toxic", "very insulting"]),
        ("[]", []),
        ("", []),
        ([], []),
        ([b"toxic", "toxic", None], ["toxic"]),
        ([3, 17], ["3", "17"]),
        ("[3, 17]", ["3", "17"]),
        ([0, 1], ["0", "1"]),  # label numbers, which never repeat
        (7, ["7"]),
        ({"toxic": 1, "insult": 0, "threat": 1}, ["toxic", "threat"]),
        ({"toxic": True, "insult": False}, ["toxic"]),
        ({"toxic": "1", "insult": "0"}, ["toxic"]),
        ({"toxic": 1.0, "insult": "0.0", "threat": "True"}, ["toxic", "threat"]),
        ('{"toxic": 1, "insult": 0}', ["toxic"]),
        ("{'toxic': True, 'insult': False}", ["toxic"]),
        ({"toxic": 0}, []),
        ({}, []),
        ({1: 1, 2: 0}, ["1"]),
        (None, SkipReason.NO_LABEL),
        (float("nan"), SkipReason.NO_LABEL),
        ({"toxic": None, "insult": ""}, SkipReason.NO_LABEL),
        ({"toxic": 1, "insult": ""}, SkipReason.NOT_BINARY),
        ({"toxic": 0, "insult": None}, SkipReason.NOT_BINARY),
        ({"toxic": 0.7}, SkipReason.NOT_BINARY),
        ({"toxic": 2}, SkipReason.NOT_BINARY),
        ({"toxic": "yes"}, SkipReason.NOT_BINARY),
        ({"toxic": [1]}, SkipReason.NOT_BINARY),
        ([0, 1, 1], SkipReason.VECTOR),
        ("0,1,1", SkipReason.VECTOR),
        ([True, False], SkipReason.VECTOR),
        ([["toxic"]], SkipReason.BAD_LIST),
        ("['toxic', 'insult", SkipReason.BAD_LIST),
        ("{toxic: 1}", SkipReason.BAD_LIST),
        (["a\0b"], SkipReason.NUL),
        (b"caf\xe9", SkipReason.NOT_UTF8),
        ({"caf\udce9": 1}, SkipReason.NOT_UTF8),
    ],
    ids=repr,
)
def test_forms_of_labels(value: Any, expected: Any) -> None:
    assert check("labels", value) == expected


@pytest.mark.parametrize(
    "names, value, expected",
    [
        (NAMES, [1, 0, 1], ["toxic", "threat"]),
        (NAMES, [0, 0, 0], []),
        (NAMES, [0.0, 1.0, 1.0], ["insult", "threat"]),
        (NAMES, [True, False, False], ["toxic"]),
        (NAMES, ["0", "1", "0"], ["insult"]),
        (NAMES, "0,1,0", ["insult"]),
        (NAMES, "[0 1 0]", ["insult"]),
        (NAMES, "[False, True, False]", ["insult"]),
        (NAMES, [0, 1], ["0", "1"]),
        (NAMES, [0, 2], ["0", "2"]),
        (NAMES, [1, 1, 0, 0], SkipReason.VECTOR),
        (NAMES, [1, 1], SkipReason.VECTOR),
        (NAMES, [1, None, 0], SkipReason.NOT_BINARY),
        (NAMES, [1.0, float("nan"), None], SkipReason.NOT_BINARY),
        (NAMES, "1,,0", SkipReason.NOT_BINARY),
        (NAMES, [None, None, None], SkipReason.NO_LABEL),
        (NAMES, ["threat", None, ""], ["threat"]),
        (NAMES, [1, None], ["1"]),
        (NAMES[:2], [1, 1], ["toxic", "insult"]),
        (NAMES[:2], [0, 1], SkipReason.VECTOR),  # the second name, or both
        (NAMES[:2], [False, True], ["insult"]),  # label numbers are not booleans
        ({5: "toxic", 6: "insult"}, [0, 1], ["insult"]),
        ({5: "toxic", 6: "insult", 7: "threat"}, [1, 0, 1], ["toxic", "threat"]),
        (["0", "1", "2"], ["0", "1", "1"], ["0", "1"]),  # names, not flags
    ],
    ids=repr,
)
def test_vectors_need_names(names: Any, value: Any, expected: Any) -> None:
    assert check("labels", value, label_names=names) == expected


def test_label_numbers_from_1_are_no_flags() -> None:
    changes = {"label_names": NAMES[:2], "label_base": 1}
    assert check("labels", [0, 1], **changes) == ["insult"]
    assert check("labels", [2], **changes) == ["2"]


def test_each_label_of_a_row_is_stored_once() -> None:
    settings = corpus_settings(input=["a"], shards="x", label_names={1: "a", 2: "a", 3: "b"})
    index = NameIndex(["a", "b"], settings)
    (cells,) = LABELS.kind_class(LABELS, settings).encode(
        [["1", "2", "1.0", "3"]], EncodingContext(index)
    )
    assert np.array(cells.rows).tolist() == [[1, 2]]


@pytest.mark.parametrize("kind, limit", [("tags", 1 << 16), ("labels", (1 << 16) - 1)])
def test_indices_of_many_names_have_32_bits(kind: str, limit: int) -> None:
    field = FieldSpec("x", "x", kind)
    small = ColumnType("uint16", is_list=True)
    assert field.column_type(3) == field.column_type(limit) == small
    assert field.column_type(limit + 1) == ColumnType("uint32", is_list=True)


@pytest.mark.parametrize(
    "value, expected",
    [
        ([b"x"], "x"),
        (["x"], "x"),
        ("['x']", "x"),
        (b"x ", "x"),
        (1.0, "1.0"),
        ("[x", "[x"),
        ("[deleted]", "[deleted]"),
        ([], SkipReason.NO_LABEL),
        ("[]", SkipReason.NO_LABEL),
        (b"caf\xe9", SkipReason.NOT_UTF8),
    ],
)
def test_forms_of_one_label(value: Any, expected: Any) -> None:
    assert check("label", value) == expected


@pytest.mark.parametrize(
    "value, found",
    [
        (["a", "b"], "2 labels ('a', 'b')"),
        ("['a', 'b']", "2 labels ('a', 'b')"),
        ({"a": 1, "b": 0}, "a map of labels ('a', 'b')"),
    ],
)
def test_several_labels_are_refused_where_one_is_needed(value: Any, found: str) -> None:
    with pytest.raises(InputError) as caught:
        check("label", value)
    assert str(caught.value) == (
        f"column 'x' has {found}, but this task needs one per row; set task.name=multilabel"
    )


@pytest.mark.parametrize(
    "value, expected",
    [
        ("['B-X', 'O']", ["B-X", "O"]),
        ("['B-X' 'O']", ["B-X", "O"]),
        ('["B-X", "O"]', ["B-X", "O"]),
        ("[B-X, O]", ["B-X", "O"]),
        ([b"B-X", b"O"], ["B-X", "O"]),
        ("[CLS] O [SEP]", ["[CLS]", "O", "[SEP]"]),
        ([0, 1, 2], ["0", "1", "2"]),
        ("0 1 2", ["0", "1", "2"]),
        ("[0, 1, 2]", ["0", "1", "2"]),
        ("['B-X', 'O'", SkipReason.BAD_LIST),
        ("['B-X', None]", SkipReason.NO_TAGS),
        (["B-caf\u00e9", "I-cafe\u0301"], ["B-caf\u00e9", "I-caf\u00e9"]),
    ],
)
def test_forms_of_tags(value: Any, expected: Any) -> None:
    assert check("tags", value) == expected


@pytest.mark.parametrize("value", [[0, 1, 2], "0 1 2", "[0 1 2]", ["0", 1.0, "2"]])
def test_tag_numbers_become_names(value: Any) -> None:
    names = ["O", "B-X", "I-X"]
    assert check("tags", value, label_names=names) == names
    assert check("tags", value, label_names=dict(enumerate(names))) == names


def test_a_number_among_tag_names_stays() -> None:
    assert check("tags", ["O", "0", "B-X"], label_names=["O", "B-X"]) == ["O", "0", "B-X"]


@pytest.mark.parametrize(
    "kind, value, expected",
    [
        ("text", 3, "3"),
        ("text", 2.5, "2.5"),
        ("text", True, "true"),
        ("text", b" a text", " a text"),
        ("target", 7, "7"),
        ("targets", [7, b"x"], ["7", "x"]),
        ("words", [1, b"x"], ["1", "x"]),
        ("words", "['New York', 'is']", ["New York", "is"]),
        ("words", "[ hi ] there", ["[", "hi", "]", "there"]),
        ("text", "['a', 'b']", "['a', 'b']"),
        ("text", b"caf\xe9", SkipReason.NOT_UTF8),
        ("words", [b"caf\xe9"], SkipReason.NOT_UTF8),
        ("text", float("nan"), SkipReason.NO_TEXT),
        ("target", None, SkipReason.NO_TARGET),
        ("target", ["a"], SkipReason.NO_TARGET),
        ("words", "['a', 'b' 'c']", SkipReason.BAD_LIST),
    ],
)
def test_numbers_and_bytes_are_text(kind: str, value: Any, expected: Any) -> None:
    assert check(kind, value) == expected


def test_parquet_maps_and_bytes(tmp_path: Path) -> None:
    """A struct column of 0 and 1, and texts as bytes."""
    table = pa.table(
        {
            "text": pa.array([f"a text n{n}".encode() for n in range(80)]),
            "label": pa.array([{"toxic": n % 2, "insult": n % 3 == 0} for n in range(80)]),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    manifest = prepare(settings_in(tmp_path, input="a.parquet"), (TEXT, LABELS))
    assert manifest.names["labels"] == ("insult", "toxic")
    assert manifest.counts["labels"] == (27, 40)
    rows = row_dicts(manifest, "train") + row_dicts(manifest, "validation")
    assert sorted(map(str, (row["labels"] for row in rows))).count("[]") == 80 - 27 - 40 + 13


def test_vectors_without_names_are_refused_in_one_line(tmp_path: Path) -> None:
    lines = [json.dumps({"text": f"n{n}", "label": [n % 2, 1, 0]}) + "\n" for n in range(20)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    with pytest.raises(InputError) as caught:
        prepare(settings_in(tmp_path, input="a.jsonl"), (TEXT, LABELS))
    (line,) = caught.value.lines
    assert "20 with a list of 0 and 1 that does not show its labels (give a name for each" in line
    settings = settings_in(tmp_path, input="a.jsonl", label_names=NAMES)
    assert prepare(settings, (TEXT, LABELS)).counts["labels"] == (10, 20, 0)


@pytest.mark.parametrize("words", [1, 2])
def test_rows_of_one_word_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, words: int
) -> None:
    rows = ["n0 n1,X O", *(f"n{n},{'OX'[n % 2]}" for n in range(2, 40))][2 - words :]
    (tmp_path / "a.csv").write_text("\n".join(["text,label", *rows]))
    fields = (FieldSpec("tokens", "text", "words"), FieldSpec("tags", "label", "tags"))
    prepare(settings_in(tmp_path, input="a.csv"), fields)
    assert ("corpus.text=text: each row has only one word; if" in caplog.text) == (words == 1)


def test_a_very_long_row_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sentences = ["a O\nb X\n\n"] * 3 + [f"w{n} O\n" for n in range(6000)] + ["\n"]
    sentences += [f"a{n} O\nb X\n\n" for n in range(30)]
    rows = [
        [line.split() for line in sentence.splitlines()]
        for sentence in "".join(sentences).split("\n\n")
        if sentence
    ]
    lines = [json.dumps({"w": [w for w, _ in row], "t": [t for _, t in row]}) for row in rows]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    fields = (FieldSpec("tokens", "w", "words"), FieldSpec("tags", "t", "tags"))
    manifest = prepare(settings_in(tmp_path, input="a.jsonl"), fields)
    line = "a.jsonl, line 4: has more than 5,000 words in one row (1 such row(s)); check that"
    assert line in caplog.text
    assert manifest.report["truncated"] == 1
