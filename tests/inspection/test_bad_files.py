"""Files that cannot be read are one line."""

from pathlib import Path

import pytest

from pipeline.errors import InputError
from pipeline.inspection.inspection import inspect

FILES = {
    "empty.csv": (b"", "is empty; remove it"),
    "header.csv": (b"text,label\n", "has no rows"),
    "binary.dat": (bytes(range(256)) * 20, "its format is not recognized, and it is not text"),
    "book.xlsx": (b"PK\3\4", "is a spreadsheet; save it as CSV"),
    "a.zip": (b"PK\3\4....", "is a zip archive; extract its files"),
    "a.pdf": (b"%PDF-1.4\n1 0 obj\n", "begins with %PDF, so its lines are not plain text"),
    "a.html": (b"<!DOCTYPE html>\n<p>A text.</p>\n", "begins with <!doctype"),
    "digits": (b"\0\0\x08\1\0\0\0\2\0\1", "is an idx file, which has only one column"),
    "numbers.csv": (b"a,b\n1.5,2.5\n3.5,4.5\n", r"no task fits its columns a \(number\)"),
    "twice.csv": (b"text,text,label\na b c,d e f,x\n", r"has 2 columns 'text'; rename them"),
    "broken.json": (b'{"text": "a', "no row can be read"),
    "broken.parquet": (b"PAR1....", "is not a valid Parquet file"),
    "cut.csv.gz": (b"\x1f\x8b\x08\0\0\0\0\0\0\3abc", "is damaged or truncated"),
}


@pytest.mark.parametrize("name", FILES)
def test_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = FILES[name]
    Path(name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^{name}.*{message}") as error:
        inspect([name])
    assert len(error.value.lines) == 1


def test_a_folder_of_unknown_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("folder/a.foo").write_text("a")
    with pytest.raises(InputError, match=r"folder: is a folder without .txt files or images"):
        inspect(["folder"])
    with pytest.raises(InputError, match=r"missing.csv: no such file"):
        inspect(["missing.csv"])


def test_files_that_are_read_differently(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.csv").write_text("text,label\nfine film,good\ndull film,bad\n")
    Path("b.csv").write_text("text;label\nfine film;good\ndull film;bad\n")
    with pytest.raises(InputError, match=r"corpus.delimiter \(none and ';'\)"):
        inspect(["a.csv", "b.csv"])
