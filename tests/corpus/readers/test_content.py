"""Tests of files' plain content: compression by content, byte order marks, encodings."""

import bz2
import gzip
import io
import lzma
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from pipeline.corpus.readers import content
from pipeline.corpus.readers.lines import LineReader
from pipeline.errors import InputError
from tests.helpers.files import open_reader, read, values_of
from tests.helpers.settings import corpus_settings

TEXTS = ["café", "naïve 映画\u2028🙂", 'a "quoted" one', "x"]
CSV = "text,label\n" + "".join('"' + t.replace('"', '""') + '",a\n' for t in TEXTS)


def zstd(data: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstd,
}


def texts(path: Path, **keys: Any) -> list[Any]:
    """Return the texts of all rows that can be read."""
    return [values_of(row)["text"] for row in read(path, ["text"], **keys) if not row.skip]


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", COMPRESSORS)
@pytest.mark.parametrize("name", ["a.csv.{kind}", "a.csv", "A.CSV.{KIND}", "a.csv.gz"])
def test_compression_is_recognized_by_content(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / name.format(kind=kind, KIND=kind.upper())
    assert texts(write(path, COMPRESSORS[kind](CSV.encode()))) == TEXTS


def test_plain_file_with_the_suffix_of_a_compression_is_read(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.csv.gz", CSV.encode())) == TEXTS


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_concatenated_compressed_files_are_read_to_the_end(tmp_path: Path, kind: str) -> None:
    data = CSV.encode()
    parts = COMPRESSORS[kind](data[:20]) + COMPRESSORS[kind](data[20:])
    assert texts(write(tmp_path / "a.csv", parts)) == TEXTS


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_truncated_compressed_file_is_an_error(tmp_path: Path, kind: str) -> None:
    rng = random.Random(0)
    rows = "".join(f"{rng.random()},a\n" for _ in range(200_000))
    data = COMPRESSORS[kind](("text,label\n" + rows).encode())
    path = write(tmp_path / f"a.csv.{kind}", data[: len(data) * 2 // 3])
    with pytest.raises(InputError, match=rf"a\.csv\.{kind}: is damaged or truncated: .*; download"):
        texts(path)


@pytest.mark.parametrize("kind", COMPRESSORS)
def test_file_that_is_compressed_twice_is_an_error(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "a.csv.gz", gzip.compress(COMPRESSORS[kind](CSV.encode())))
    with pytest.raises(InputError, match=r"a\.csv\.gz: is compressed twice; decompress it once"):
        texts(path)


def zip_file() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("a.csv", CSV)
    return data.getvalue()


ARCHIVES = {"zip": zip_file(), "7z": b"7z\xbc\xaf\x27\x1c0000", "RAR": b"Rar!\x1a\x07\x00000"}


@pytest.mark.parametrize("name", ["a.csv", "a.zip"])
@pytest.mark.parametrize("kind", ARCHIVES)
def test_archive_of_files_is_an_error(tmp_path: Path, kind: str, name: str) -> None:
    with pytest.raises(InputError, match=rf"{name}: is a {kind} archive; extract its files"):
        texts(write(tmp_path / name, ARCHIVES[kind]))


def test_text_that_begins_as_bzip2_does_is_text(tmp_path: Path) -> None:
    assert texts(write(tmp_path / "a.txt", b"BZh is a prefix\nBZh9\n")) == [
        "BZh is a prefix",
        "BZh9",
    ]


MARKED = {
    "UTF-8": b"\xef\xbb\xbf" + CSV.encode(),
    "UTF-16, little-endian": b"\xff\xfe" + CSV.encode("utf-16-le"),
    "UTF-16, big-endian": b"\xfe\xff" + CSV.encode("utf-16-be"),
    "UTF-32, little-endian": b"\xff\xfe\0\0" + CSV.encode("utf-32-le"),
    "UTF-32, big-endian": b"\0\0\xfe\xff" + CSV.encode("utf-32-be"),
}


@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gz"])
@pytest.mark.parametrize("mark", MARKED)
def test_byte_order_mark_shows_the_encoding(
    tmp_path: Path, mark: str, compress: Callable[[bytes], bytes], encoding: str
) -> None:
    path = write(tmp_path / "a.csv", compress(MARKED[mark]))
    assert texts(path, encoding=encoding) == TEXTS


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf_16_without_a_mark_names_its_encoding(tmp_path: Path, order: str) -> None:
    path = write(tmp_path / "a.csv", CSV.encode(f"utf-16-{order}"))
    with pytest.raises(InputError, match=rf"a\.csv: looks like UTF-16 .*encoding=utf-16-{order}$"):
        texts(path)
    assert texts(path, encoding=f"utf-16-{order}") == TEXTS


ENCODED = {
    "cp1252": "text\ncafé \u2013 \u201cx\u201d\n", "latin-1": "text\ncafé\n",
    "gb18030": "text\n映画 🙂\n",
    "shift_jis": "text\n映画\n", "koi8-r": "text\nжизнь\n", "big5": "text\n電影\n",
}  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODED)
def test_encoding_can_be_named(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "a.csv", ENCODED[encoding].encode(encoding))
    assert texts(path, encoding=encoding) == [ENCODED[encoding].split("\n")[1]]


UNDECODABLE = {
    "utf-8": b"text\ngood\ncaf\xe9\nfine\n",
    "ascii": b"text\ngood\ncaf\xe9\nfine\n",
    "gb18030": b"text\ngood\n\xff\xff\nfine\n",
    "utf-16-le": "text\ngood\n".encode("utf-16-le")
    + b"\x00\xd8\n\0"
    + "fine\n".encode("utf-16-le"),
}


@pytest.mark.parametrize("encoding", UNDECODABLE)
def test_undecodable_bytes_are_in_their_row_only(tmp_path: Path, encoding: str) -> None:
    first, second, third = texts(
        write(tmp_path / "a.csv", UNDECODABLE[encoding]), encoding=encoding
    )
    assert (first, third) == ("good", "fine")
    with pytest.raises(UnicodeEncodeError):  # which `string_flaw` reports as NOT_UTF8
        second.encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "gb18030", "utf-16-be"])
def test_chunks_may_divide_a_character(encoding: str, size: int) -> None:
    data = CSV.encode(encoding)
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert b"".join(content.utf8_chunks(chunks, encoding, "a")) == CSV.encode()


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_truncated_character_becomes_an_invalid_byte(size: int) -> None:
    data = "ab".encode("utf-16-le")[:-1]
    chunks = [data[start : start + size] for start in range(0, len(data), size)]
    assert b"".join(content.utf8_chunks(chunks, "utf-16-le", "a")) == b"a\xff"


def test_line_number_of_a_row_is_that_in_the_encoded_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", 'text\n"a\nb"\nc\n'.encode("utf-16"))
    assert [row.line for row in read(path, ["text"])] == [2, 4]


def test_names_lose_only_the_suffix_of_a_compression() -> None:
    names = {
        "a.csv.gz": "a.csv", "a.TXT.ZST": "a.TXT", "a.tgz": "a.tar", "a.txz": "a.tar",
        "a.csv": "a.csv", "s3://b/a.csv.gz?versionId=1": "s3://b/a.csv", "a?.csv.gz": "a?.csv",
    }  # fmt: skip
    assert {name: content.plain_name(name) for name in names} == names


def test_lines_returned_to_the_reader_are_read_again() -> None:
    lines = LineReader(io.BytesIO("\ufeffa\né\nc\n".encode()), "a.txt")
    first, second = next(lines), next(lines)
    assert (first, second, lines.line_number, lines.offset) == ("a\n", "é\n", 2, 8)
    lines.unread([second])
    assert (lines.line_number, lines.offset) == (1, 5)
    assert list(lines) == ["é\n", "c\n"]
    assert lines.offset == 10


JOINED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "a.csv": ("text,label\n", 'a,x\n"b\n\ufeffc",y\n', {}),
    "a.tsv": ("", "a\tx\nb\ty\n", {"column_names": ["text", "label"]}),
    "a.jsonl": ("", '{"text": "a", "label": "x"}\n{"text": "b", "label": "y"}\n', {}),
    "a.conll": ("", "a x\nb y\n\nc x\n\n", {"column_names": ["text", "label"]}),
}
"""A header, rows, and keys of a file of each of these formats."""


@pytest.mark.parametrize("name", JOINED)
def test_marks_where_files_were_joined_are_removed(tmp_path: Path, name: str) -> None:
    header, rows, keys = JOINED[name]
    (tmp_path / "joined").mkdir()
    mark = "\ufeff" if header else ""
    data = mark + header + ("\ufeff" + rows) * 3
    joined = write(tmp_path / "joined" / name, data.encode())
    plain = write(tmp_path / name, (header + rows.replace("\ufeff", "") * 3).encode())
    columns = ["text", "label"]
    expected = list(read(plain, columns, **keys))
    with open_reader(joined, columns, **keys) as reader:
        marks, lines, found = [reader.mark], [reader.next_line], []
        for row in reader:
            found.append(row)
            marks.append(reader.mark)
            lines.append(reader.next_line)
    assert [row[:3] for row in found] == [row[:3] for row in expected]
    assert marks[-1] == joined.stat().st_size
    for start in range(len(found)):
        with open_reader(joined, columns, **keys) as reader:
            reader.next_line = lines[start]
            reader.seek(marks[start] or 0, marks[-1] or 0, start + 1)
            assert list(reader) == found[start:]


@pytest.mark.parametrize("name", ["utf9", "hex", "rot13", "idna", "undefined", "a\0b", ""])
def test_a_name_that_is_no_encoding_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="is not an encoding; use a name such as utf-8"):
        corpus_settings(input=["a"], shards="b", encoding=name)


@pytest.mark.parametrize("name", ["UTF8", "latin1", "1252", "utf-8-sig", "utf-7", "punycode"])
def test_names_of_encodings_are_those_of_python(name: str) -> None:
    assert corpus_settings(input=["a"], shards="b", encoding=name).encoding == name
