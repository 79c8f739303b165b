"""Rows of parallel files: each file has one column, and line n of all files is row n.

A file has text, one value per line, or is an idx file; either may be gzipped. Preparing converts
parallel files to one Parquet file, which can be read from any of its row groups (see
`materialize.py`); evaluation reads them directly. Both hold only a few rows in memory.
"""

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from pipeline.corpus.readers.idx import ZEROS, IdxReader
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.opening import table_suffixes
from pipeline.errors import InputError

MAGIC_BYTES = {
    b"\x1f\x8b": "gzip", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"PK\3\4": "zip",
}  # fmt: skip
"""First bytes of compressed files; no text begins with them."""
MISSING = object()


class ParallelFiles:
    """Iterates over the rows of parallel files; `open_parallel_files` opens them.

    `types` are the columns' Arrow types.
    """

    def __init__(self, files: Mapping[str, "ColumnFile"]) -> None:
        self._files = files
        self.types = {column: file.type for column, file in files.items()}

    @property
    def position(self) -> int:
        """Bytes read so far, of all files."""
        return sum(file.position for file in self._files.values())

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Raises InputError if there are no rows, or if one file has more rows than another."""
        rows = 0
        for values in zip_longest(*self._files.values(), fillvalue=MISSING):
            if any(value is MISSING for value in values):
                raise self._misaligned(rows, values)
            rows += 1
            yield dict(zip(self._files, values, strict=True))
        if not rows:
            raise InputError(f"{self._names()}: have no rows; remove them from the input")

    def _misaligned(self, rows: int, values: tuple[Any, ...]) -> InputError:
        """Return the error for files that end after different numbers of rows.

        `rows` were complete; `values` are those of the next row, `MISSING` where a file has ended.
        """
        counts = [
            rows if value is MISSING else rows + 1 + sum(1 for _ in file)
            for value, file in zip(values, self._files.values(), strict=True)
        ]
        counts_text = ", ".join(
            f"{file.name} has {count:,} rows"
            for file, count in zip(self._files.values(), counts, strict=True)
        )
        return InputError(
            f"{self._names()}: are misaligned: {counts_text}, but row n of one belongs to row n of "
            "the others; give files with the same number of rows"
        )

    def _names(self) -> str:
        return " and ".join(file.name for file in self._files.values())


class ColumnFile:
    """The values of one column: those of an idx file, which is recognized by its first bytes, or
    the lines of a text file.

    Raises InputError if the file is compressed in another way than its name shows.
    """

    def __init__(self, raw: IO[bytes], name: str, gzipped: bool) -> None:
        self.name = name
        self._raw = raw
        stream: Any = gzip.GzipFile(fileobj=raw) if gzipped else raw
        if gzipped:
            stream = io.BufferedReader(stream)
        with _read_errors(name):
            head = stream.read(max(map(len, MAGIC_BYTES)))
            stream.seek(0)
        compression = next((kind for m, kind in MAGIC_BYTES.items() if head.startswith(m)), None)
        if compression:
            remedy = "decompress it"
            if compression == "gzip" and not gzipped:
                remedy = f"name it {Path(name).name}.gz"
            raise InputError(f"{name}: is {compression} by its first bytes, not text; {remedy}")
        self.type: Any = pa.string()
        if head.startswith(ZEROS):
            with _read_errors(name):
                idx = IdxReader(stream, name)
            self.type = pa.float64() if idx.floats else pa.int64()
            if idx.images:
                self.type = pa.binary()
            self._values: Iterator[Any] = iter(idx)
        else:
            self._values = _line_values(LineReader(stream, name))

    @property
    def position(self) -> int:
        """Bytes read so far, of the file itself (compressed, if it is gzipped)."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[Any]:
        with _read_errors(self.name):
            yield from self._values


def _line_values(lines: LineReader) -> Iterator[str]:
    for line in lines:
        yield line.rstrip("\r\n")


@contextmanager
def _read_errors(name: str) -> Iterator[None]:
    """Convert errors of reading a file to InputError."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: is damaged or truncated: {error}; download it again") from None


@contextmanager
def open_parallel_files(files: Mapping[str, tuple[str, Path]]) -> Iterator[ParallelFiles]:
    """Open parallel files, given as a dict from column to (name in errors, path).

    Raises InputError if a file cannot be read, is empty or has the suffix of a table.
    """
    with ExitStack() as stack:
        column_files = {}
        for column, (name, path) in files.items():
            try:
                raw: IO[bytes] = stack.enter_context(path.open("rb"))
            except OSError as error:
                raise InputError(f"{name}: cannot be read: {error.strerror}") from None
            _check_suffix(name, path)
            if path.stat().st_size == 0:
                raise InputError(
                    f"{name}: is empty; remove it from the input, or download it again"
                )
            column_files[column] = ColumnFile(raw, name, path.suffix.lower() == ".gz")
        yield ParallelFiles(column_files)


def _check_suffix(name: str, path: Path) -> None:
    """Raise InputError if the file has the suffix of a table, which has several columns."""
    suffix = (path.with_suffix("") if path.suffix.lower() == ".gz" else path).suffix.lower()
    if suffix in table_suffixes():
        raise InputError(
            f"{name}: is a table by its suffix {suffix}, but each line of a parallel file is "
            "read as one value, even a header; list tables without column names, or rename the "
            "file if it has one value per line"
        )
