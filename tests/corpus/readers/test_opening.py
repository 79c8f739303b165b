"""Tests of opening files: rows and their numbers, reading between marks, resolving inputs."""

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from pipeline.corpus.readers.formats.tsv import Tsv
from pipeline.corpus.readers.inputs import locate, resolve
from pipeline.errors import InputError
from tests.helpers.files import Rows, open_reader, read, reviews, write

ROWS = reviews(250)
SUFFIXES = ["csv", "tsv", "jsonl", "tar", "parquet"]
QUOTED: dict[str, Any] = {"quoting": True}  # the texts contain tabs and line breaks


@pytest.mark.parametrize("suffix", [*SUFFIXES, "csv.gz", "tsv.gz", "jsonl.gz", "tar.gz"])
def test_every_row_is_read_once_with_its_number(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"a.{suffix}", ROWS)
    rows = list(read(path, ["label", "text"], **QUOTED))
    assert [row.number for row in rows] == list(range(1, 251))
    assert [row.values for row in rows] == [
        {"label": row["label"], "text": row["text"]} for row in ROWS
    ]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_reading_between_two_marks_returns_the_same_rows(tmp_path: Path, suffix: str):
    path = write(tmp_path / f"a.{suffix}", ROWS, row_group=50)
    with open_reader(path, ["text"], **QUOTED) as reader:
        assert reader.mark is not None
        marks = [(reader.mark, 1, reader.next_line)]
        all_rows = []
        for row in reader:
            all_rows.append(row)
            if reader.mark is not None:
                marks.append((reader.mark, row.number + 1, reader.next_line))
        assert reader.position == reader.size
    assert len(marks) == (6 if suffix == "parquet" else 251)
    for (start, first, line), (stop, end, _) in [(marks[0], marks[2]), (marks[1], marks[-2])]:
        with open_reader(path, ["text"], **QUOTED) as reader:
            reader.next_line = line
            reader.seek(start, stop, first)
            assert list(reader) == all_rows[first - 1 : end - 1]


def test_error_names_a_missing_file(tmp_path: Path):
    with pytest.raises(InputError, match=r"a\.csv: cannot be read: No such file or directory"):
        list(read(tmp_path / "a.csv", ["text"]))


def test_error_names_a_missing_column(tmp_path: Path):
    for suffix in SUFFIXES:
        path = write(tmp_path / f"a.{suffix}", ROWS)
        with pytest.raises(
            InputError, match=r"no column 'labl' \(did you mean 'label'\?\); it has"
        ):
            list(read(path, ["labl"]))


def test_missing_json_key_is_none(tmp_path: Path):
    rows: Rows = [{"text": "a"}, {"text": "b", "label": 1}]
    path = write(tmp_path / "a.jsonl", rows)
    assert [row.values for row in read(path, ["text", "label"])] == [
        {"text": "a", "label": None},
        {"text": "b", "label": 1},
    ]


def test_inputs_are_in_order_without_duplicates(tmp_path: Path):
    for name in ("b.csv", "a.csv", "sub/c.csv", "d [1].csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text\nx\n")
    sources = locate(["b.csv", "*.csv", str(tmp_path / "a.csv"), "**/c.csv", "d [1].csv"], tmp_path)
    assert [source.name for source in sources] == ["b.csv", "a.csv", "d [1].csv", "sub/c.csv"]
    (source,) = resolve([str(tmp_path / "a.csv")])
    assert source.path == tmp_path / "a.csv"


def test_braces_expand_in_order_and_every_file_must_exist(tmp_path: Path):
    for name in ("0009.csv", "0010.csv", "b.csv", "{a}.csv"):
        (tmp_path / name).write_text("text\nx\n")
    sources = locate(["{b,00{09..10}}.csv", "{a}.csv"], tmp_path)
    assert [source.name for source in sources] == ["b.csv", "0009.csv", "0010.csv", "{a}.csv"]
    with pytest.raises(InputError, match=r"0011\.csv: no such file; did you mean"):
        locate(["{0009..0012}.csv"], tmp_path)


def test_file_in_a_package_is_found_without_importing_the_package(tmp_path: Path, monkeypatch):
    package = tmp_path / "carrier"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError")
    (package / "a.csv").write_text("text\nx\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert [s.path for s in resolve(["package://carrier/a.csv"])] == [package / "a.csv"]


def test_images_of_a_folder_are_read_between_two_marks(tmp_path: Path):
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with open_reader(tmp_path, ["label", "image"]) as reader:
        rows = list(reader)
    assert [row.values for row in rows][1:3] == [
        {"label": "a", "image": b"a/2.png"},
        {"label": "b", "image": b"b/1.png"},
    ]
    with open_reader(tmp_path, ["label", "image"], file_format="images") as reader:
        reader.seek(1, 3, 2)
        assert list(reader) == rows[1:3]
        assert reader.mark == 3


def test_error_if_two_readers_recognize_a_file(tmp_path: Path, monkeypatch):
    """Readers of installed packages may recognize the same names."""
    path = write(tmp_path / "a.csv", ROWS)
    monkeypatch.setattr(Tsv, "suffixes", (".tsv", ".csv"))
    with (
        pytest.raises(InputError, match=r"a\.csv: may have the format csv or tsv; set"),
        open_reader(path, ["text"]),
    ):
        pass


NESTED = {"a.b": {"c": "1"}, "a": {"x.y": {"z": ["2", "3"]}, "b": "4"}, "d": [{"e": "5"}]}
PATHS = {"a.b": {"c": "1"}, "a.b.c": "1", "a.x.y.z.1": "3", "d.0.e": "5"}


@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet", "a.arrow"])
def test_names_on_a_path_may_contain_dots(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    table = pa.Table.from_pylist([NESTED, NESTED])
    if name == "a.jsonl":
        path.write_text(f"{json.dumps(NESTED)}\n" * 2)
    elif name == "a.parquet":
        pq.write_table(table, path)
    else:
        feather.write_feather(table, str(path))
    assert [row.values for row in read(path, list(PATHS))] == [PATHS, PATHS]
    for column in ["a.x", "a.b.d", "d.e", "d.x.e", "d.\u00b2.e", "a.b.c.f"]:
        with pytest.raises(InputError, match=f"has no column '{re.escape(column)}'"):
            list(read(path, [column]))
