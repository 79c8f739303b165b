"""Rows of parallel files: each file has one column, and line n of all files is row n.

A file has text, one value per line, or is an idx file; either may be compressed. Preparation
converts parallel files to one Parquet file, which can be read from any of its row groups (see
`materialize.py`); evaluation reads them directly. Both hold only a few rows in memory.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from pipeline.corpus.readers import content
from pipeline.corpus.readers.idx import ZEROS, IdxReader
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.opening import ChunkStream, reads_tables
from pipeline.errors import InputError

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
    """The values of one column: the items of an idx file, which is recognized by its first bytes,
    or the lines of a text file in an encoding."""

    def __init__(self, raw: IO[bytes], name: str, encoding: str) -> None:
        self.name = name
        self._raw = raw
        head = content.read_head(raw, name)
        stream: Any = content.decompressed(raw, name)
        self.type: Any = pa.string()
        if head.startswith(ZEROS):
            with content.read_errors(name):
                idx = IdxReader(stream, name)
            self.type = pa.float64() if idx.floats else pa.int64()
            if idx.images:
                self.type = pa.binary()
            self._values: Iterator[Any] = iter(idx)
            return
        if found := content.encoding_of(head, encoding, name):
            chunks = content.utf8_chunks(content.read_chunks(stream, name), found, name)
            stream = io.BufferedReader(ChunkStream(chunks))
        self._values = _line_values(LineReader(stream, name))

    @property
    def position(self) -> int:
        """Bytes read so far, of the file itself (compressed, if it is gzipped)."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[Any]:
        with content.read_errors(self.name):
            yield from self._values


def _line_values(lines: LineReader) -> Iterator[str]:
    for line in lines:
        yield line.rstrip("\r\n")


@contextmanager
def open_parallel_files(
    files: Mapping[str, tuple[str, Path]], encoding: str = "utf-8"
) -> Iterator[ParallelFiles]:
    """Open parallel files, given as a dict from column to (name in errors, path).

    Raises InputError if a file cannot be read, is empty or has the suffix of a table.
    """
    with ExitStack() as stack:
        column_files = {}
        for column, (name, path) in files.items():
            try:
                raw: IO[bytes] = stack.enter_context(path.open("rb"))
            except OSError as error:
                raise InputError(
                    f"{name}: cannot be read: {error.strerror}; make it readable, or remove it"
                ) from None
            _check_suffix(name)
            if path.stat().st_size == 0:
                raise InputError(
                    f"{name}: is empty; remove it from the input, or download it again"
                )
            column_files[column] = ColumnFile(raw, name, encoding)
        yield ParallelFiles(column_files)


def _check_suffix(name: str) -> None:
    """Raise InputError if the file has the suffix of a table, which has several columns."""
    if reads_tables(name):
        suffix = Path(content.plain_name(name)).suffix.lower()
        raise InputError(
            f"{name}: is a table by its suffix {suffix}, but each line of a parallel file is "
            "read as one value, even a header; list tables without column names, or rename the "
            "file if it has one value per line"
        )
