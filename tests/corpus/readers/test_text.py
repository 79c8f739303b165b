"""Tests of plain text: lines, and files that only look like it by their names."""

from pathlib import Path

import pytest

from pipeline.errors import InputError
from tests.helpers.files import read


def texts(path: Path, file_format: str = "") -> list[object]:
    return [(row.line, row.values) for row in read(path, ["text"], file_format=file_format)]


def test_each_line_that_is_not_blank_is_a_row(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\r\n \n{b}\nc\u2028d".encode())
    assert texts(path) == [(1, {"text": "a"}), (3, {"text": "{b}"}), (4, {"text": "c\u2028d"})]


def test_json_objects_are_not_text_unless_the_format_is_given(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    with pytest.raises(InputError, match=r"a\.txt, line 1: is a JSON object; .*format=jsonl to"):
        texts(path)
    assert texts(path, "jsonl") == [(1, {"text": "a"}), (2, {"text": "b"})]
    assert texts(path, "text")[0] == (1, {"text": '{"text": "a"}'})


def test_error_for_another_column_names_formats_with_columns(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("ham\tSee you.\n")
    with pytest.raises(
        InputError, match=r"no column 'label'; .*=conll; if it has other .*=tsv or csv"
    ):
        list(read(tmp_path / "a.txt", ["label"]))
