"""Tests of folders of text files, one document per file."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.readers import folders
from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from tests.helpers.files import content, open_reader, read, settings_in, values_of

COLUMNS = ["text", "label", "file"]
FILES: dict[str, bytes] = {
    "neg/1.txt": b"bad\nfilm\n",
    "neg/2.TXT": "caf\u00e9".encode(),
    "pos/deep/3.text": b"\xef\xbb\xbffine",
    "pos/4.txt.gz": gzip.compress(b"zipped"),
    "pos/5.txt": "a b".encode("utf-16"),
    "6.txt": b"top",
}
ROWS = [
    ["top", None, "6.txt"],
    ["bad\nfilm\n", "neg", "neg/1.txt"],
    ["café", "neg", "neg/2.TXT"],
    ["zipped", "pos", "pos/4.txt.gz"],
    ["a b", "pos", "pos/5.txt"],
    ["fine", "deep", "pos/deep/3.text"],
]
HIDDEN = {".git/a.txt": b"x", "pos/.a.txt": b"x", "neg/.ipynb_checkpoints/a.txt": b"x"}
OTHER = {"README.md": b"x", "neg/urls.csv": b"x", "pos/a.png": b"x"}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def values(rows: list[Row]) -> list[Any]:
    return [list(values_of(row).values()) for row in rows]


def test_each_file_is_a_row(tmp_path: Path) -> None:
    rows = list(read(write(tmp_path, FILES | HIDDEN | OTHER), COLUMNS, file_format="documents"))
    assert values(rows) == ROWS
    assert [row.number for row in rows] == [1, 2, 3, 4, 5, 6]
    assert rows[1].place("data/") == "data/neg/1.txt"


def test_folder_is_recognized_by_its_files_and_the_columns(tmp_path: Path) -> None:
    assert values(list(read(write(tmp_path, FILES | OTHER), COLUMNS))) == ROWS
    with open_reader(tmp_path, ["image", "label"]) as reader:  # a.png is an image of "pos"
        assert values(list(reader)) == [[b"x", "pos"]]


def test_files_without_a_suffix_are_read_if_there_are_no_others(tmp_path: Path) -> None:
    """20 Newsgroups is laid out so."""
    write(tmp_path, {"sci.med/58001": b"a", "sci.space/60001": b"b", "README.md": b"x"})
    rows = list(read(tmp_path, ["text", "label"], file_format="documents"))
    assert values(rows) == [["a", "sci.med"], ["b", "sci.space"]]
    (tmp_path / "README.md").unlink()
    assert values(list(read(tmp_path, ["text", "label"]))) == values(rows)


def test_reading_between_any_two_marks_returns_the_same_rows(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    for start in range(len(ROWS)):
        for stop in range(start + 1, len(ROWS) + 1):
            with open_reader(tmp_path, COLUMNS) as reader:
                reader.seek(start, stop, start + 1)
                rows = list(reader)
                assert reader.mark == stop
            assert values(rows) == ROWS[start:stop]
            assert rows[0].number == start + 1


DAMAGED: dict[str, tuple[bytes, str]] = {
    "a.txt.gz": (gzip.compress(b"x" * 1000)[:-6], "Compressed file ended before"),
    "zip.txt": (b"PK\3\4xxxx", "zip.txt: is a zip archive"),
    "utf16.txt": ("a text".encode("utf-16-le"), "set corpus.encoding=utf-16-le"),
    "large.txt": (b"x" * 2000, "more than 1,500 bytes"),
}


def test_file_that_is_damaged_is_a_bad_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_FILE_BYTES", 1500)
    write(tmp_path, {"good.txt": b"good", **{name: data for name, (data, _) in DAMAGED.items()}})
    rows = {row.file: row for row in read(tmp_path, ["text"])}
    assert rows.pop("good.txt").values == {"text": "good"}
    assert rows.keys() == DAMAGED.keys()
    for name, (_, detail) in DAMAGED.items():
        is_text = name == "utf16.txt"
        assert rows[name].skip is (SkipReason.NOT_UTF8 if is_text else SkipReason.DAMAGED)
        assert detail in rows[name].detail


def test_encoding_applies_to_files_without_a_mark(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": "café".encode("cp1252"), "b.txt": "café".encode("utf-16")})
    rows = list(read(tmp_path, ["text"], encoding="cp1252"))
    assert values(rows) == [["café"], ["café"]]


def test_bytes_that_are_not_text_become_surrogates(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"caf\xe9"})
    assert values(list(read(tmp_path, ["text"]))) == [["caf\udce9"]]


ERRORS: dict[str, tuple[dict[str, bytes], str, list[str], str]] = {
    "other files": (
        {"a.parquet.gz": b"x", "b/_SUCCESS": b""},
        "",
        ["text"],
        r"is a folder .*; name its files, such as data/\*\.parquet\.gz$",
    ),
    "no files": ({}, "", ["text"], r"is a folder .*; name its files, such as data/\*\.csv$"),
    "no text files": ({"a.md": b"x"}, "documents", ["text"], "contains no text files; add files"),
    "another column": ({"a.txt": b"x"}, "", ["body"], "has no column 'body'; it has 'text', 'lab"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_error_for_a_folder_that_cannot_be_read(tmp_path: Path, case: str) -> None:
    files, file_format, columns, message = ERRORS[case]
    settings = settings_in(tmp_path, format=file_format)
    with (
        pytest.raises(InputError, match=rf"^data: {message}"),
        open_corpus_file(settings, write(tmp_path, files), columns, "data"),
    ):
        pass


def test_dataset_does_not_depend_on_chunks_and_workers(
    prepare_dataset: Any, tmp_path: Path
) -> None:
    names = ["neg", "pos"]
    files = {f"data/{names[n % 2]}/{n}.txt": f"text {n} of {n % 7}".encode() for n in range(300)}
    write(tmp_path, files | {"data/neg/empty.txt": b""})
    datasets = {}
    for chunk_mb, workers in ((8.0, 1), (0.0005, 2)):
        folder = tmp_path / f"shards{workers}"
        manifest = prepare_dataset(
            input="data", shards=str(folder), chunk_mb=chunk_mb, workers=workers
        )
        assert manifest.names["label"] == ("neg", "pos")
        assert (manifest.report["rows"], manifest.report["no_text"]) == (301, 1)
        datasets[workers] = content(folder)
    assert datasets[1] == datasets[2]
