"""Tests of CSV and TSV: quotes, records that are skipped, headers, delimiters, columns."""

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.readers.formats import csv as csv_format
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import open_reader, read, values_of

BAD_QUOTES = SkipReason.BAD_QUOTES
COLUMNS = ["text", "label"]


def write(folder: Path, text: str, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return path


def rows_of(path: Path, columns: list[str] = COLUMNS, **keys: Any) -> list[Row]:
    return list(read(path, columns, **keys))


def brief(rows: list[Row]) -> list[Any]:
    """Return each row's values as a list, or its line and skip reason."""
    return [(row.line, row.skip) if row.skip else list(values_of(row).values()) for row in rows]


# name: (lines after the header, values of each row or its line and skip reason)
QUOTES: dict[str, tuple[str, list[Any]]] = {
    "quoted fields": ('"a, b",x\n"c ""d"" e","y"\n', [["a, b", "x"], ['c "d" e', "y"]]),
    "quotes inside a field": ('she wrote "no",x\n', [['she wrote "no"', "x"]]),
    "a field of several lines": ('"a\nb\r\nc",x\nd,y\n', [["a\nb\r\nc", "x"], ["d", "y"]]),
    "not closed": ('a,x\n"b,y\nc,x\n', [["a", "x"], (3, BAD_QUOTES), ["c", "x"]]),
    "not closed at the end": ('a,x\n"b,y', [["a", "x"], (3, BAD_QUOTES)]),
    "closed inside a field": ('"a" b,x\nc,y\n', [(2, BAD_QUOTES), ["c", "y"]]),
    "closed inside a later line": (
        'a,x\n"b,y\n"c",z\nd,x\n',
        [["a", "x"], (3, BAD_QUOTES), ["c", "z"], ["d", "x"]],
    ),
    "not closed in the second field": ('a,"x\nb,y\n', [(2, BAD_QUOTES), ["b", "y"]]),
    "several": ('"a\n"b\nc,x\n', [(2, BAD_QUOTES), (3, BAD_QUOTES), ["c", "x"]]),
    "too many fields": ("a,b,x\nc,y\n", [(2, SkipReason.WRONG_FIELDS), ["c", "y"]]),
    "too few fields": ("a\nc,y\n", [(2, SkipReason.WRONG_FIELDS), ["c", "y"]]),
    "the header again": (
        "a,x\ntext,label\nb,y\n",
        [["a", "x"], (3, SkipReason.HEADER), ["b", "y"]],
    ),
    "the header again, quoted": ('"text"," label"\nb,y\n', [(2, SkipReason.HEADER), ["b", "y"]]),
    "a carriage return": ("a\rb,x\nc,y\n", [(2, SkipReason.BAD_LINE_END), ["c", "y"]]),
    "blank lines": ("\n\r\na,x\n\n\nb,y\n\n", [["a", "x"], ["b", "y"]]),
    "blank fields": (",\n , \n", [["", ""], [" ", " "]]),
    "the header again, after a mark": (
        "a,x\n\ufefftext,label\nb,y\n",
        [["a", "x"], (3, SkipReason.HEADER), ["b", "y"]],
    ),
    "blanks before quotes": (
        '"a, b", "x"\n c,  "d ""e"""\nis, "f" g\nh, i\n',
        [["a, b", "x"], ["c", 'd "e"'], ["is", ' "f" g'], ["h", " i"]],
    ),
    "blanks before quotes, with delimiters": (
        '1, "a, b"\n2, "c, d\n3, e "f, g"\n',
        [["1", "a, b"], (3, SkipReason.WRONG_FIELDS), (4, SkipReason.WRONG_FIELDS)],
    ),
    "empty quoted fields": ('"",""\n', [["", ""]]),
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("case", QUOTES)
def test_bad_record_is_one_row(tmp_path: Path, case: str, end: str) -> None:
    lines, expected = QUOTES[case]
    if end == "\r\n" and "several lines" not in case:
        lines = lines.replace("\r\n", "\n").replace("\n", end)
    rows = rows_of(write(tmp_path, "text,label" + end + lines))
    assert brief(rows) == expected
    assert [row.number for row in rows] == list(range(1, len(rows) + 1))


def test_detail_shows_the_quote(tmp_path: Path) -> None:
    lines = 'x,"closed\nb,y\n"c" d,e\nx,"a long name that is not closed\nb,y\n'
    rows = rows_of(write(tmp_path, f"text,label\n{lines}"))
    assert [(row.line, row.detail) for row in rows if row.skip] == [
        (2, "closed on line 4 inside a field"),
        (4, "closed on line 4 inside a field"),
        (5, repr('"a long name that is not close')),
    ]


def numbered(count: int) -> str:
    return "".join(f"text {number},label\n" for number in range(count))


@pytest.mark.parametrize("count", [25, 3000])
def test_quotes_far_apart_do_not_swallow_the_records_between_them(
    tmp_path: Path, count: int
) -> None:
    """The case of a quote at the start of row 10 and another at the end of row 1,990."""
    text = "text,label\n" + '"open,label\n' + numbered(count) + 'close",label\nlast,label\n'
    rows = rows_of(write(tmp_path, text))
    assert brief(rows[:2]) == [(2, BAD_QUOTES), ["text 0", "label"]]
    assert [row.line for row in rows] == list(range(2, count + 5))
    assert sum(row.skip is not None for row in rows) == 1
    assert values_of(rows[-2])["text"] == 'close"'


@pytest.mark.parametrize("count", [1, 19, 25, 3000])
def test_quoted_field_of_many_lines_is_one_row(tmp_path: Path, count: int) -> None:
    body = "\n".join(f"A line of a mail, number {n}, and more, as it is." for n in range(count))
    (row,) = rows_of(write(tmp_path, f'text,label\n"{body}",x\n'))
    assert row.values == {"text": body, "label": "x"}


def test_field_that_is_too_long_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_format, "MAX_FIELD_CHARACTERS", 1000)
    path = write(tmp_path, f"text,label\n{'x' * 1001},a\n{'y' * 1000},b\n")
    assert brief(rows_of(path)) == [(2, SkipReason.LONG_FIELD), ["y" * 1000, "b"]]


@pytest.mark.parametrize("quoting", [True, False])
def test_quotes_of_a_tsv_are_ordinary_characters_by_default(tmp_path: Path, quoting: bool) -> None:
    text = 'text\tlabel\n"an open quote\tx\n5" wide\ty\n"quoted"\tz\n'
    path = write(tmp_path, text, "a.tsv")
    if quoting:
        assert brief(rows_of(path, quoting=True)) == [
            (2, BAD_QUOTES),
            ['5" wide', "y"],
            ["quoted", "z"],
        ]
    else:
        expected = [['"an open quote', "x"], ['5" wide', "y"], ['"quoted"', "z"]]
        assert brief(rows_of(path)) == expected
        assert brief(rows_of(path, quoting=False)) == expected


def test_quoting_can_be_switched_off_for_csv(tmp_path: Path) -> None:
    path = write(tmp_path, 'text,label\n"a,x\n"b",y\n')
    assert brief(rows_of(path, quoting=False)) == [['"a', "x"], ['"b"', "y"]]


DELIMITERS = {";": ";", "|": "|", "\\t": "\t", ":": ":", "ß": "ß"}


@pytest.mark.parametrize("quoting", [True, False])
@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_delimiter_can_be_any_character(tmp_path: Path, delimiter: str, quoting: bool) -> None:
    sign = DELIMITERS[delimiter]
    path = write(tmp_path, f"text{sign}label\na, b{sign}x\n")
    assert brief(rows_of(path, delimiter=delimiter, quoting=quoting)) == [["a, b", "x"]]


def test_columns_name_the_fields_of_a_file_without_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, '"3","a title","x, y"\n"1","another","z"\n"2","too few"\n')
    names = ["label", "title", "text"]
    assert brief(rows_of(path, ["text", "label"], column_names=names)) == [
        ["x, y", "3"],
        ["z", "1"],
        (3, SkipReason.WRONG_FIELDS),
    ]


def test_columns_may_be_given_for_a_file_with_a_header(tmp_path: Path) -> None:
    path = write(tmp_path, "text,label\na,x\n")
    assert brief(rows_of(path, column_names=["text", "label"])) == [
        (1, SkipReason.HEADER),
        ["a", "x"],
    ]


ERRORS = {
    "no header": (
        "a,1\nb,2\n", "a.csv", {},
        ("a.csv: has no column 'text'; it has 'a', '1' (its first line is read as the header; if "
         "it has none, set corpus.columns)"),
    ),
    "long fields as the header": (
        f"{'x' * 100},1\n", "a.csv", {}, f"it has '{'x' * 57}...', '1' (its first line is read",
    ),
    "semicolons": (
        "text;label\na;x\n", "a.csv", {},
        ("a.csv: has no column 'text'; it has 'text;label' (if its fields have another separator, "
         "set corpus.delimiter=';')"),
    ),
    "tabs": ("text\tlabel\na\tx\n", "a.csv", {}, "set corpus.delimiter='\\t')"),
    "commas in a TSV": ("text,label\na,x\n", "a.tsv", {}, "set corpus.delimiter=',')"),
    "quotes in a TSV": (
        '"text"\t"label"\n"a"\t"x"\n', "a.tsv", {}, "(if its fields are quoted, set corpus.quoting",
    ),
    "a header that is not closed": (
        '"text,label\na,x\n', "a.csv", {},
        "a.csv, line 1: the header has a quote that is not closed",
    ),
    "a column twice": ("text,text,label\na,b,x\n", "a.csv", {}, "has 2 columns 'text'; rename"),
    "columns that are too few": (
        "a,x\n", "a.csv", {"column_names": ["text", "labl"]},
        ("a.csv: has no column 'label' (did you mean 'labl'?); it has 'text', 'labl' (from "
         "corpus.columns, which must list all columns in order)"),
    ),
    "only a header": ("text,label\n", "a.csv", {}, "a.csv: has no rows; remove it from the input"),
}  # fmt: skip


@pytest.mark.parametrize("case", ERRORS)
def test_error_names_the_way_out(tmp_path: Path, case: str) -> None:
    text, name, keys, message = ERRORS[case]
    with pytest.raises(InputError) as error:
        rows_of(write(tmp_path, text, name), **keys)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def random_file(rng: random.Random) -> str:
    """Return lines with quotes, delimiters and line breaks anywhere."""
    parts = ['"', '"', ",", ",", "\n", "\n", "\r\n", "a", "é", " ", '""', "b,x\n", '"c","y"\n']
    return "text,label\n" + "".join(rng.choices(parts, k=rng.randint(1, 60)))


@pytest.mark.parametrize("seed", range(40))
def test_reading_between_any_two_marks_returns_the_same_rows(tmp_path: Path, seed: int) -> None:
    path = write(tmp_path, random_file(random.Random(seed)) + "\nend,z\n")
    with open_reader(path, COLUMNS) as reader:
        marks = [(reader.mark, reader.next_line)]
        rows = []
        for row in reader:
            rows.append(row)
            marks.append((reader.mark, reader.next_line))
    assert rows[-1].values == {"text": "end", "label": "z"} or rows[-1].skip
    for number, ((start, line), (stop, _)) in enumerate(pairwise(marks)):
        with open_reader(path, COLUMNS) as reader:
            reader.next_line = line
            reader.seek(start or 0, stop or 0, number + 1)
            (found,) = reader
        assert (found.number, found.values, found.line) == rows[number][:3]


@pytest.mark.parametrize("seed", range(40))
def test_no_line_is_lost(tmp_path: Path, seed: int) -> None:
    """Rows of one line, with stray quotes: each is read or counted, and clean rows are read."""
    rng = random.Random(seed)
    lines = [
        f"{rng.choice(['', '', '', chr(34)])}text {number}{rng.choice(['', '', chr(34)])},label"
        for number in range(100)
    ]
    rows = rows_of(write(tmp_path, "\n".join(["text,label", *lines, ""])))
    found = {row.line: row for row in rows}
    covered = sum(str(row.values).count("\\n") for row in rows)
    assert len(rows) + covered == len(lines)
    first_quote = min((n for n, line in enumerate(lines, 2) if line.startswith('"')), default=999)
    for number, line in enumerate(lines, 2):
        if number < first_quote:
            assert values_of(found[number])["text"] == line.partition(",")[0]


def test_blanks_before_quotes_in_the_header(tmp_path: Path) -> None:
    path = write(tmp_path, '"text", "label"\n"a", "x"\n')
    assert brief(rows_of(path)) == [["a", "x"]]


@pytest.mark.parametrize("text", ['"a"\t"x"\n', '\ufeff"a b"\t""\r\n'])
def test_a_tsv_file_in_quotes_needs_a_choice(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text + "b\ty\n", "a.tsv")
    with pytest.raises(
        InputError, match=r"a\.tsv, line 1: all fields are in quotes, .*quoting=true"
    ):
        rows_of(path, column_names=COLUMNS)
    kept = brief(rows_of(path, column_names=COLUMNS, quoting=False))
    assert kept[0] == text.removeprefix("\ufeff").strip().split("\t")
    assert kept[1] == ["b", "y"]
