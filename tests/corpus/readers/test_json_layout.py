"""Tests of JSON that is not one object per line: arrays, and objects over several lines."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.readers import json_layout
from pipeline.corpus.readers.json_layout import json_lines, spans_lines
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import read, values_of

ROWS: list[dict[str, Any]] = [
    {"text": "café 映画 🙂", "label": 1},
    {"text": 'a "quote", a } and a ] \\', "label": None},
    {"text": "lines\nand \u2028 separators", "nested": {"list": [1, [2.5e3, {}], ""]}},
    {},
    {"text": "", "label": False},
]
INDENTED = json.dumps(ROWS, indent=2, ensure_ascii=False)
DOCUMENTS = {
    "an array on one line": json.dumps(ROWS),
    "an array with escapes": json.dumps(ROWS, ensure_ascii=True, separators=(",", ":")),
    "an indented array": INDENTED,
    "an array with CRLF": INDENTED.replace("\n", "\r\n").replace("lines\\r", "lines"),
    "an array with an object per line": "[\n" + ",\n".join(map(json.dumps, ROWS)) + "\n]\n",
    "an array with leading commas": "[ " + "\n, ".join(map(json.dumps, ROWS)) + "]",
    "an array with a trailing comma": json.dumps(ROWS)[:-1] + ",]",
    "a byte order mark": "\ufeff \n" + INDENTED,
    "indented objects": "\n".join(json.dumps(row, indent=1, ensure_ascii=False) for row in ROWS),
    "objects without separators": "".join(json.dumps(row, indent=1) for row in ROWS),
    "two arrays": json.dumps(ROWS[:2], indent=1) + "\n" + json.dumps(ROWS[2:]),
    "joined files with byte order marks": "\ufeff".join(["", *(json.dumps([row]) for row in ROWS)]),
    "an object and an array": json.dumps(ROWS[0], indent=1) + "\n" + json.dumps(ROWS[1:]),
    "an array per line": "\n".join(json.dumps([row]) for row in ROWS) + "\n",
}


class Chunks(io.BytesIO):
    """A stream that returns a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        super().__init__(data)
        self._size = size

    def read(self, size: int | None = -1) -> bytes:
        return super().read(self._size)


def laid_out(text: str | bytes, size: int = 1 << 20) -> list[Any]:
    """Return the value of each line, or the line itself if it is not JSON."""
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    values = []
    for line in json_lines(Chunks(data, size), "a.json"):
        assert line.count(b"\n") == 1
        assert line.endswith(b"\n")
        try:
            values.append(json.loads(line))
        except ValueError:
            values.append(line.decode("utf-8", "surrogateescape").strip())
    return values


@pytest.mark.parametrize("size", [1, 3, 7, 1 << 20])
@pytest.mark.parametrize("document", DOCUMENTS)
def test_each_object_becomes_a_line(document: str, size: int) -> None:
    assert laid_out(DOCUMENTS[document], size) == ROWS


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_are_recognized_and_read(tmp_path: Path, document: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(DOCUMENTS[document], newline="")
    rows = list(read(path, ["text", "label"]))
    assert [values_of(row) for row in rows] == [
        {"text": row.get("text"), "label": row.get("label")} for row in ROWS
    ]
    assert {row.line for row in rows} == {0}  # an object has no line of its own


LAYOUTS = {
    '{"a": 1}\n{"a": 2}\n': False,
    '{"a": 1}': False,
    '{"a": {"b": 1}}\n\n': False,
    '{"a":\n{"a": 2}\n': False,  # a damaged first line
    '{"a": "x\n{"a": "y"}\n': False,
    "text\n": False,
    "": False,
    "[]": True,
    '[{"a": 1}]': True,
    "[\n": True,
    "\ufeff\n [1]": True,
    '{\n"a": 1}': True,
    '{"a": [\n1]}': True,
    '{"a": 1,\n"b": 2}': True,
    '{"a": 1\n}\n{"a": 2}': True,
}


@pytest.mark.parametrize("head", LAYOUTS)
def test_head_shows_whether_objects_span_lines(head: str) -> None:
    assert spans_lines(head.encode()) is LAYOUTS[head]


DAMAGED: dict[str, tuple[str, list[Any]]] = {
    "an element that is no object": (
        '[{"a": 1}, 7, "x", null, [2]]',
        [{"a": 1}, 7, "x", None, [2]],
    ),
    "a value that is missing": (
        '[{"a": 1},\n{"a": },\n{"a": 3}]',
        [{"a": 1}, '{"a": }, {', {"a": 3}],
    ),
    "a quote that is missing": (
        '[{"a": 1},\n{"a": b"},\n{"a": 3}]',
        [{"a": 1}, '{"a": b"}, {', {"a": 3}],
    ),
    "a brace that is missing": (
        '[{"a": 1},\n{"a": 2,\n{"a": 3}]',
        [{"a": 1}, '{"a": 2,', {"a": 3}],
    ),
    "a long value that is damaged at its start": (
        '[{"a": 1},\n{"a": b, "c": "' + "x " * 99 + '", "d": {"a": 9}},\n{"a": 3}]',
        [{"a": 1}, '{"a": b, "c": ..., {', {"a": 3}],
    ),
    "a comma that is missing": ('[{"a": 1} {"a": 2}]', [{"a": 1}, {"a": 2}]),
    "NaN": ('[{"a": NaN}]', [{"a": float("nan")}]),
}


@pytest.mark.parametrize("size", [1, 3, 7, 1 << 20])
@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_element_becomes_one_line(case: str, size: int) -> None:
    text, expected = DAMAGED[case]
    found = laid_out(text, size)
    assert len(found) == len(expected)
    for value, wanted in zip(found, expected, strict=True):
        if isinstance(wanted, str) and wanted.startswith("{"):
            assert isinstance(value, str)  # a line that cannot be parsed
        else:
            assert repr(value) == repr(wanted)


@pytest.mark.parametrize("size", [1, 3, 7, 1 << 20])
def test_truncated_array_has_a_line_for_its_end(size: int) -> None:
    complete = json.dumps(ROWS)
    assert laid_out(complete[:-1], size) == [*ROWS, "the array is not closed"]
    for end in range(2, len(complete) - 1, 5):
        *values, last = laid_out(complete[:end], size)
        assert last == "the array is not closed"
        assert [v for v in values if v in ROWS] == ROWS[: len([v for v in values if v in ROWS])]
        assert len(values) <= len(ROWS)


def skips(rows: list[Row]) -> list[tuple[int, SkipReason | None]]:
    return [(row.number, row.skip) for row in rows]


def test_damaged_elements_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n{"a": 1},\n7,\n{"a": },\n{"a": "x"}\n')
    rows = list(read(path, ["a"]))
    bad = SkipReason.NOT_JSON
    assert skips(rows) == [(1, None), (2, bad), (3, bad), (4, None), (5, bad)]
    assert rows[4].place("a.json") == "a.json, row 5"
    assert rows[1].detail == "a int"


def test_invalid_bytes_are_in_their_object_only(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'[{"a": "caf\xe9"}, {"a": "caf\xc3\xa9"}, {"a": "\xf0\x9f"}]')
    assert [values_of(row)["a"] for row in read(path, ["a"])] == [
        "caf\udce9",
        "café",
        "\udcf0\udc9f",
    ]


def test_value_that_is_too_large_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_layout, "MAX_VALUE_CHARACTERS", 1000)
    monkeypatch.setattr(json_layout, "CHUNK_BYTES", 100)
    text = json.dumps([{"a": "x"}, {"a": "x" * 1500}])
    with pytest.raises(InputError, match=r"a\.json: has a JSON value of more than 1,000 charact"):
        laid_out(text, 100)
    assert len(laid_out(json.dumps([{"a": "x" * 300}] * 20), 100)) == 20


def test_deeply_nested_value_is_a_bad_row(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1},\n' + '{"a":[' * 100_000 + ',\n{"a": 2}]')
    rows = list(read(path, ["a"]))
    assert [row.skip for row in rows].count(None) == 2
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' + "[" * 100_000 + '\n{"a": 2}\n')
    assert skips(list(read(path, ["a"]))) == [(1, None), (2, SkipReason.NOT_JSON), (3, None)]
