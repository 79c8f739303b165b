"""Tests of CoNLL and CoNLL-U: sentences and their numbers, reading between marks, errors."""

import gzip
from itertools import combinations
from pathlib import Path

import pytest

from pipeline.corpus.readers.formats import conll
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import open_reader, read, values_of

NAMES = ["words", "pos", "tags"]
CONLL = """-DOCSTART- -X- O

EU NNP B-ORG
rejects VBZ O

-DOCSTART- -X- O


# NN O
über\u00a0alles JJ O
naïve  JJ   B-MISC

A DT O
"""
SENTENCES = [
    {"words": ["EU", "rejects"], "pos": ["NNP", "VBZ"], "tags": ["B-ORG", "O"]},
    {"words": ["#", "über\u00a0alles", "naïve"], "pos": ["NN", "JJ", "JJ"],
     "tags": ["O", "O", "B-MISC"]},
    {"words": ["A"], "pos": ["DT"], "tags": ["O"]},
]  # fmt: skip
CONLLU = """# sent_id = 1
# text = Vámonos al mar
1-2\tVámonos\t_\t_\t_\t_\t_\t_\t_\t_
1\tVamos\tir\tVERB\t_\tMood=Imp\t0\troot\t0:root\t_
2\tnos\tnosotros\tPRON\t_\t_\t1\tobj\t1:obj\t_
3-4\tal\t_\t_\t_\t_\t_\t_\t_\t_
3\ta\ta\tADP\t_\t_\t5\tcase\t5:case\t_
4\tel\tel\tDET\t_\t_\t5\tdet\t5:det\t_
5\tmar\tmar\tNOUN\t_\t_\t1\tobl\t1:obl\tSpaceAfter=No

# sent_id = 2

# text = 20 000 , too
1\t20 000\t20 000\tNUM\t_\t_\t0\troot\t0:root\t_
1.1\tcome\tcome\tVERB\t_\t_\t_\t_\t0:root\t_
2\t#\t#\tSYM\t_\t_\t1\tdep\t1:dep\t_
"""
TREES = [
    {"form": ["Vamos", "nos", "a", "el", "mar"], "head": ["0", "1", "5", "5", "1"],
     "misc": ["_", "_", "_", "_", "SpaceAfter=No"]},
    {"form": ["20 000", "#"], "head": ["0", "1"], "misc": ["_", "_"]},
]  # fmt: skip
TREE_COLUMNS = ["form", "head", "misc"]

both_formats = pytest.mark.parametrize(
    "suffix, text, columns, expected",
    [("conll", CONLL, NAMES, SENTENCES), ("conllu", CONLLU, TREE_COLUMNS, TREES)],
    ids=["conll", "conllu"],
)


def write_file(path: Path, text: str | bytes) -> Path:
    data = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


CHANGES = {
    "unchanged": lambda text: text,
    "no newline at the end": lambda text: text.rstrip("\n"),
    "a blank line at the end": lambda text: text + "\n",
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "several blank lines": lambda text: "\n\n" + text.replace("\n\n", "\n\n\n \n\t\n") + "\n\n",
    "a byte order mark": lambda text: "\ufeff" + text,
}


@both_formats
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_every_sentence_is_read_once_with_its_number(
    tmp_path: Path, suffix, text, columns, expected, change: str, ending: str
):
    path = write_file(tmp_path / f"a.{suffix}{ending}", CHANGES[change](text))
    rows = list(read(path, columns, NAMES))
    assert [row.number for row in rows] == list(range(1, len(expected) + 1))
    assert [row.values for row in rows] == expected


@both_formats
@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a", "a.csv"])
def test_explicit_format_overrides_the_file_name(
    tmp_path: Path, suffix, text, columns, expected, name: str
):
    path = write_file(tmp_path / name, text)
    with open_reader(path, columns, NAMES, suffix) as reader:
        assert type(reader).__name__.lower() == suffix
    assert [row.values for row in read(path, columns, NAMES, suffix)] == expected


@both_formats
@pytest.mark.parametrize("change", CHANGES)
def test_reading_between_any_two_marks_returns_the_same_sentences(
    tmp_path: Path, suffix, text, columns, expected, change: str
):
    path = write_file(tmp_path / f"a.{suffix}", CHANGES[change]((text + "\n") * 3))
    with open_reader(path, columns, column_names=NAMES) as reader:
        assert isinstance(reader, TextFormat)
        marks, lines, sentences = [reader.mark], [reader.next_line], []
        for row in reader:
            sentences.append(row)
            marks.append(reader.mark)
            lines.append(reader.next_line)
        assert reader.position == reader.size
    assert len(sentences) == len(expected) * 3
    for first, end in combinations(range(len(marks)), 2):
        with open_reader(path, columns, column_names=NAMES) as reader:
            reader.next_line = lines[first]
            reader.seek(marks[first], marks[end], first + 1)
            rows = [row._replace(line=0) for row in reader]
            assert rows == [row._replace(line=0) for row in sentences[first:end]]
            assert reader.mark == marks[end]


def test_document_start_ends_a_sentence(tmp_path: Path):
    path = write_file(tmp_path / "a.conll", "a\n-DOCSTART-\nb\n-DOCSTART- -X- O\n\nc\n")
    rows = list(read(path, ["words"], ["words"]))
    assert [row.values for row in rows] == [{"words": ["a"]}, {"words": ["b"]}, {"words": ["c"]}]


def test_tab_separated_fields_may_contain_spaces_or_be_empty(tmp_path: Path):
    path = write_file(tmp_path / "a.conll", "New York\tB-LOC\n\t O \n\nA  B-LOC\n")
    assert [row.values for row in read(path, ["words", "tags"], ["words", "tags"])] == [
        {"words": ["New York", ""], "tags": ["B-LOC", "O"]},
        {"words": ["A"], "tags": ["B-LOC"]},
    ]


@pytest.mark.parametrize("line", ["b", "b X O O", "b\tO"])
def test_line_with_wrong_field_count_invalidates_only_its_sentence(tmp_path: Path, line: str):
    path = write_file(tmp_path / "a.conll", f"a X O\n{line}\nc X O\n\nd X O\n")
    rows = list(read(path, ["words"], NAMES))
    assert [row.values for row in rows] == [None, {"words": ["d"]}]
    assert [row.number for row in rows] == [1, 2]
    assert (rows[0].skip, rows[0].line) == (SkipReason.WRONG_FIELDS, 2)
    assert rows[0].detail == f"{len(line.split())} instead of 3"
    assert rows[1].line == 5


def test_conllu_line_with_wrong_field_count_invalidates_only_its_sentence(tmp_path: Path):
    path = write_file(tmp_path / "a.conllu", "1\ta\n\n" + CONLLU)
    assert [row.values for row in read(path, TREE_COLUMNS)] == [None, *TREES]


@pytest.mark.parametrize("sentences", [3, 1500])
def test_error_if_no_sentence_has_the_right_field_count(tmp_path: Path, sentences: int):
    path = write_file(tmp_path / "a.conll", "a X O\nb X O\n\n" * sentences)
    message = r"no sentence .* lines have 2 fields.* corpus.columns; line \d+ has 3;"
    with pytest.raises(InputError, match=message):
        list(read(path, ["words"], ["words", "tags"]))
    path = write_file(tmp_path / "a.conllu", "a X O\nb X O\n\n" * sentences)
    with pytest.raises(
        InputError, match=r"no valid CoNLL-U sentence.* 10 fields .* line \d+ has 1"
    ):
        list(read(path, ["form"]))


def test_field_count_is_not_checked_between_marks(tmp_path: Path):
    path = write_file(tmp_path / "a.conll", "a\n\nb O\n")
    with open_reader(path, ["words"], column_names=["words", "tags"]) as reader:
        reader.seek(0, 3, 1)
        assert [row.values for row in reader] == [None]


def test_error_for_missing_or_duplicate_columns(tmp_path: Path):
    path = write_file(tmp_path / "a.conll", CONLL)
    with pytest.raises(
        InputError, match=r"a\.conll: CoNLL files have no column names.*corpus\.columns=\["
    ):
        list(read(path, ["words"]))
    message = r"no column 'tgas' \(did you mean 'tags'\?\); it has .* \(from corpus\.columns"
    with pytest.raises(InputError, match=message):
        list(read(path, ["tgas"], NAMES))
    with pytest.raises(InputError, match="has 2 columns 'x'; rename them"):
        list(read(path, ["x"], ["x", "x"]))
    path = write_file(tmp_path / "a.conllu", CONLLU)
    with pytest.raises(
        InputError, match=r"no column 'from' \(did you mean 'form'\?\); it has 'id'"
    ):
        list(read(path, ["from"]))


def test_bytes_that_are_not_utf8_become_surrogates(tmp_path: Path):
    path = write_file(tmp_path / "a.conll", b"caf\xe9 X O\n")
    assert [row.values for row in read(path, ["words"], NAMES)] == [{"words": ["caf\udce9"]}]


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is empty; remove it from the input, or download it again"),
        (b"\n\n", "has no rows; remove it from the input"),
        (b"-DOCSTART- -X- O\n\n", "has no rows; remove it from the input"),
        (CONLL.encode("utf-16-le"), "looks like UTF-16 .* corpus.encoding=utf-16-le"),
    ],
)
def test_error_names_a_file_without_sentences(tmp_path: Path, data: bytes, message: str):
    with pytest.raises(InputError, match=rf"a\.conll: {message}"):
        list(read(write_file(tmp_path / "a.conll", data), ["words"], NAMES))


def test_error_names_a_truncated_gzip_file(tmp_path: Path):
    path = tmp_path / "a.conll.gz"
    path.write_bytes(gzip.compress(CONLL.encode())[:-20])
    with pytest.raises(InputError, match=r"a\.conll\.gz: is damaged or truncated"):
        list(read(path, ["words"], NAMES))


def test_very_long_sentence_is_skipped_with_its_lines(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(conll, "MAX_WORDS", 100)
    text = "a X O\n\n" + "b X O\n" * 101 + "\nc X O\n"
    path = write_file(tmp_path / "a.conll", text)
    with open_reader(path, ["words"], NAMES, max_tokens=50) as reader:
        rows = list(reader)
    assert [row.values for row in rows] == [{"words": ["a"]}, None, {"words": ["c"]}]
    assert rows[1].skip == SkipReason.LONG_SENTENCE
    assert (rows[1].line, rows[2].line) == (3, 105)
    assert rows[1].detail == "101 words without a blank line up to line 103"
    with open_reader(path, ["words"], NAMES, max_tokens=101) as reader:
        assert [len(values_of(row)["words"]) for row in reader] == [1, 101, 1]
