"""Rows of CSV, TSV, JSONL, CoNLL, CoNLL-U, captions, WebDataset tars (each also .gz) and Parquet,
read in bounded memory.

A reader can be cut: `mark` is a place between two rows that `seek` goes back to. It counts bytes
in a text file or tar and row groups in a Parquet file.
"""

import gzip
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.readers.captions import Captions
from pipeline.corpus.readers.conll import conll_columns, conll_records
from pipeline.corpus.readers.text import (
    LINE,
    Lines,
    check_columns,
    csv_header,
    csv_records,
    json_records,
    plain_records,
)
from pipeline.corpus.readers.webdataset import TarReader
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SENTENCES = (".conll", ".conllu")
CAPTIONS = ".captions"
PLAIN = ".txt"
MAY_BE_GZIPPED = (".csv", ".tsv", ".jsonl", ".tar", PLAIN, *SENTENCES)
BATCH_ROWS = 1024

Format = Literal["", "conll", "conllu", "captions", "images"]
"""What a file is, whatever its name says; empty: what its name says. Images are of folders."""


def read(
    path: Path, columns: Sequence[str], names: Sequence[str] = (), given: Format = ""
) -> Iterator[Row]:
    """Every row of a file with the raw values of `columns`; `names` and `given` as `open_reader`.

    Raises InputError if the file is missing, empty, of an unknown kind, damaged or lacks a column.
    """
    with open_reader(path, columns, names=names, given=given) as reader:
        yield from reader


def opened(
    settings: CorpusSettings, path: Path, columns: Sequence[str], name: str = ""
) -> AbstractContextManager["Reader"]:
    """A reader at the first row of a file of the corpus."""
    return open_reader(path, columns, name, settings.columns, settings.format)


@contextmanager
def open_reader(
    path: Path,
    columns: Sequence[str],
    name: str = "",
    names: Sequence[str] = (),
    given: Format = "",
) -> Iterator["Reader"]:
    """A reader at the first row; `name` stands for the file in errors. `names` are the columns of a
    CoNLL file, which has no header, and `given` is its format if its name does not tell it."""
    name = name or str(path)
    kind, gzipped = form(path, name, given)
    try:
        file: IO[bytes] = path.open("rb")
    except OSError as error:
        raise InputError(f"{name}: cannot be read: {error.strerror}") from None
    with file:
        if path.stat().st_size == 0:
            raise InputError(f"{name}: is empty; take it out of the input, or fetch it anew")
        if kind == ".parquet":
            yield ParquetReader(file, columns, name)
        elif kind == ".tar":
            with _unzipped(path, name) if gzipped else file as archive:
                yield TarReader(archive, columns, name)
        else:
            stream: Any = gzip.GzipFile(fileobj=file) if gzipped else file
            yield TextReader(stream, columns, name, kind, path.stat().st_size, names)


def form(path: Path, name: str, given: Format = "") -> tuple[str, bool]:
    """The kind of a file, as the suffix that says so, and whether it is compressed."""
    if f".{given}" in (CAPTIONS, *SENTENCES):
        return f".{given}", path.suffix.lower() == ".gz"
    if path.suffix.lower() == ".tgz":
        return ".tar", True
    bare = path.with_suffix("") if (gzipped := path.suffix.lower() == ".gz") else path
    kind = bare.suffix.lower()
    if kind not in MAY_BE_GZIPPED and (kind != ".parquet" or gzipped):
        raise InputError(
            f"{name}: its name does not say what it is; needs .csv, .tsv, .jsonl, .txt, "
            ".conll, .conllu, .tar (each may be .gz), .tgz or .parquet, or corpus.format"
        )
    return kind, gzipped


class TextReader:
    """Rows of CSV, TSV, JSONL and plain texts, of which each line is one; of CoNLL and CoNLL-U,
    where a row is a sentence and its values are lists with an item a token; of caption files, where
    it is an image."""

    def __init__(
        self,
        stream: IO[bytes],
        columns: Sequence[str],
        name: str,
        kind: str,
        size: int,
        names: Sequence[str] = (),
    ) -> None:
        self.size = size
        self._kind = kind
        self._stream, self._columns, self._name = stream, columns, name
        self._lines = Lines(stream, name)
        self._delimiter = DELIMITERS.get(kind)
        self._row = 1
        if self._delimiter:
            self._header = csv_header(self._lines, self._delimiter)
            check_columns(columns, self._header, name)
        elif kind == PLAIN:
            check_columns(columns, [LINE], name, ": a plain text has lines and no other columns")
        elif kind == CAPTIONS:
            self._captions = Captions(self._lines, columns)
        elif kind in SENTENCES:
            self._header = conll_columns(kind, columns, names, name)

    @property
    def mark(self) -> int:
        """The byte that the next row begins at."""
        return self._lines.offset - self._lines.ahead

    @property
    def position(self) -> int:
        """How far of `size` the reader has come."""
        return self._lines.offset

    def seek(self, start: int, stop: int, row: int) -> None:
        """Go on at the mark `start`, whose row has the number `row`, and end at the mark `stop`."""
        self._stream.seek(start)
        self._lines.offset, self._lines.stop, self._row = start, stop, row

    def __iter__(self) -> Iterator[Row]:
        first = self._row
        for values in self._records():
            yield Row(self._row, values)
            self._row += 1
        if self._row == 1 and first == 1:
            raise InputError(f"{self._name}: holds no row; take it out of the input")

    def _records(self) -> Iterator[dict[str, Any] | None]:
        if self._delimiter:
            return csv_records(self._lines, self._delimiter, self._header, self._columns)
        if self._kind == CAPTIONS:
            return self._captions.records()
        if self._kind in SENTENCES:
            return conll_records(self._lines, self._kind, self._header, self._columns)
        if self._kind == PLAIN:
            return plain_records(self._lines)
        return json_records(self._lines, self._columns)


class ParquetReader:
    """Rows of a Parquet file, one row group after the other."""

    def __init__(self, file: IO[bytes], columns: Sequence[str], name: str) -> None:
        self._columns, self._name = list(columns), name
        try:
            self._file = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{name}: is not a whole Parquet file: {error}") from None
        check_columns(columns, self._file.schema_arrow.names, name)
        facts = self._file.metadata
        if facts.num_rows == 0:
            raise InputError(f"{name}: holds no row; take it out of the input")
        self._row, self._start, self._stop = 1, 0, facts.num_row_groups
        self.size = sum(facts.row_group(g).total_byte_size for g in range(self._stop))
        self.position = 0  # bytes of the row groups that are done, of `size`
        self.mark: int | None = 0  # the next row group; None inside of one

    def seek(self, start: int, stop: int, row: int) -> None:
        """Go on at row group `start`, whose first row has the number `row`, and end at `stop`."""
        self._start, self._stop, self._row = start, stop, row

    def __iter__(self) -> Iterator[Row]:
        for group in range(self._start, self._stop):
            facts = self._file.metadata.row_group(group)
            last = self._row + facts.num_rows - 1
            for values in self._group(group):
                self.mark = group + 1 if self._row == last else None
                self.position += facts.total_byte_size if self._row == last else 0
                yield Row(self._row, values)
                self._row += 1

    def _group(self, group: int) -> Iterator[dict[str, Any]]:
        batches = self._file.iter_batches(
            BATCH_ROWS, row_groups=[group], columns=self._columns, use_threads=False
        )
        try:
            for batch in batches:
                lists = [_plain(batch.column(name)) for name in self._columns]
                for values in zip(*lists, strict=True):
                    yield dict(zip(self._columns, values, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self._name}: row group {group} is damaged: {error}") from None


Reader = TextReader | ParquetReader | TarReader


def _plain(column: Any) -> list[Any]:
    """Python values; strings are decoded here because Parquet does not promise UTF-8."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        items, lengths = iter(_plain(column.flatten())), column.value_lengths().to_pylist()
        return [None if n is None else list(islice(items, n)) for n in lengths]
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        return list(column.to_pylist())
    raw = column.cast(pa.large_binary()).to_pylist()
    return [None if data is None else data.decode("utf-8", "surrogateescape") for data in raw]


def unzip(path: Path, name: str) -> Iterator[tuple[bytes, int]]:
    """The bytes inside a .gz file in chunks, each with the compressed bytes read for it."""
    before = 0
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as stream:
            while chunk := stream.read(1 << 20):
                here = raw.tell()
                yield chunk, here - before
                before = here
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{name}: is not a whole gzip file: {error}; fetch it anew") from None


def _unzipped(path: Path, name: str) -> IO[bytes]:
    """The content of a .gz file in a passing one, which can be read from any place on."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  the caller closes it
    for chunk, _ in unzip(path, name):
        file.write(chunk)
    return file
