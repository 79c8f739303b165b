"""Readers of text tables (CSV, TSV, JSON lines, plain text, CoNLL, captions) and Parquet files."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.readers.captions import Captions
from pipeline.corpus.readers.conll import conll_columns, conll_records
from pipeline.corpus.readers.text import (
    TEXT_COLUMN,
    LineReader,
    check_columns,
    csv_header,
    csv_records,
    json_records,
    plain_records,
)
from pipeline.corpus.row import Row
from pipeline.errors import InputError

DELIMITERS = {".csv": ",", ".tsv": "\t"}
CONLL_KINDS = (".conll", ".conllu")
CAPTIONS_KIND = ".captions"
PLAIN_KIND = ".txt"
BATCH_ROWS = 1024


class TextReader:
    """Reads the rows of a text file.

    A row is a record of CSV, TSV or JSON lines; a line of plain text; a sentence of CoNLL or
    CoNLL-U, whose values are lists with one item per token; or an image of a caption file.

    `kind` is the suffix of the format, `size` the file's size in bytes and `column_names` are the
    columns of a CoNLL file. Raises InputError if one of `columns` is missing or there are no rows.
    """

    def __init__(
        self,
        stream: IO[bytes],
        columns: Sequence[str],
        name: str,
        kind: str,
        size: int,
        column_names: Sequence[str] = (),
    ) -> None:
        self.size = size
        self._kind = kind
        self._stream, self._columns, self._name = stream, columns, name
        self._lines = LineReader(stream, name)
        self._delimiter = DELIMITERS.get(kind)
        self._row_number = 1
        if self._delimiter:
            self._header = csv_header(self._lines, self._delimiter)
            check_columns(columns, self._header, name)
        elif kind == PLAIN_KIND:
            check_columns(columns, [TEXT_COLUMN], name, " (a plain text file has no other column)")
        elif kind == CAPTIONS_KIND:
            self._captions = Captions(self._lines, columns)
        elif kind in CONLL_KINDS:
            self._header = conll_columns(kind, columns, column_names, name)

    @property
    def mark(self) -> int:
        """Byte offset of the next row."""
        return self._lines.offset - self._lines.lookahead

    @property
    def position(self) -> int:
        """Bytes read so far, out of `size`."""
        return self._lines.offset

    def seek(self, start: int, stop: int, row: int) -> None:
        """Read from the mark `start`, whose row has the number `row`, to the mark `stop`."""
        self._stream.seek(start)
        self._lines.offset, self._lines.stop, self._row_number = start, stop, row

    def __iter__(self) -> Iterator[Row]:
        first = self._row_number
        for values in self._records():
            yield Row(self._row_number, values)
            self._row_number += 1
        if self._row_number == 1 and first == 1:
            raise InputError(f"{self._name}: has no rows; remove it from the input")

    def _records(self) -> Iterator[dict[str, Any] | None]:
        if self._delimiter:
            return csv_records(self._lines, self._delimiter, self._header, self._columns)
        if self._kind == CAPTIONS_KIND:
            return self._captions.records()
        if self._kind in CONLL_KINDS:
            return conll_records(self._lines, self._kind, self._header, self._columns)
        if self._kind == PLAIN_KIND:
            return plain_records(self._lines)
        return json_records(self._lines, self._columns)


class ParquetReader:
    """Reads the rows of a Parquet file, one row group after another.

    Raises InputError if the file is damaged, has no rows or lacks one of `columns`.
    """

    def __init__(self, file: IO[bytes], columns: Sequence[str], name: str) -> None:
        self._columns, self._name = list(columns), name
        try:
            self._file = pq.ParquetFile(file)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{name}: is not a valid Parquet file: {error}") from None
        check_columns(columns, self._file.schema_arrow.names, name)
        metadata = self._file.metadata
        if metadata.num_rows == 0:
            raise InputError(f"{name}: has no rows; remove it from the input")
        self._row_number, self._start, self._stop = 1, 0, metadata.num_row_groups
        self.size = sum(metadata.row_group(g).total_byte_size for g in range(self._stop))
        self.position = 0  # bytes of the finished row groups, out of `size`
        self.mark: int | None = 0  # index of the next row group; None inside a row group

    def seek(self, start: int, stop: int, row: int) -> None:
        """Read row groups `start` to `stop` - 1; the number of the first row is `row`."""
        self._start, self._stop, self._row_number = start, stop, row

    def __iter__(self) -> Iterator[Row]:
        for group in range(self._start, self._stop):
            metadata = self._file.metadata.row_group(group)
            last = self._row_number + metadata.num_rows - 1
            for values in self._row_group(group):
                is_last = self._row_number == last
                self.mark = group + 1 if is_last else None
                self.position += metadata.total_byte_size if is_last else 0
                yield Row(self._row_number, values)
                self._row_number += 1

    def _row_group(self, group: int) -> Iterator[dict[str, Any]]:
        batches = self._file.iter_batches(
            BATCH_ROWS, row_groups=[group], columns=self._columns, use_threads=False
        )
        try:
            for batch in batches:
                columns = [_to_python(batch.column(name)) for name in self._columns]
                for values in zip(*columns, strict=True):
                    yield dict(zip(self._columns, values, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self._name}: row group {group} is damaged: {error}") from None


def _to_python(column: Any) -> list[Any]:
    """Convert an Arrow array to Python values.

    Strings are decoded here, as Parquet does not guarantee UTF-8: other bytes become surrogates.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    dtype = column.type
    if pa.types.is_list(dtype) or pa.types.is_large_list(dtype):
        items, lengths = iter(_to_python(column.flatten())), column.value_lengths().to_pylist()
        return [None if n is None else list(islice(items, n)) for n in lengths]
    if not (pa.types.is_string(dtype) or pa.types.is_large_string(dtype)):
        return list(column.to_pylist())
    encoded = column.cast(pa.large_binary()).to_pylist()
    return [None if data is None else data.decode("utf-8", "surrogateescape") for data in encoded]
