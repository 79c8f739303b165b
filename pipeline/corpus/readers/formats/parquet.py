"""Parquet."""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.readers.base import RawFile, Reader, check_columns
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import InputError

BATCH_ROWS = 1024


class Parquet(Reader):
    """Reads one row group after another. A mark is the index of a row group."""

    suffixes = (".parquet",)
    gzippable = False
    seeks = True

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        super().__init__(file, columns, settings)
        try:
            self._parquet = pq.ParquetFile(file.stream)
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{file.name}: is not a valid Parquet file: {error}") from None
        check_columns(columns, self._parquet.schema_arrow.names, file.name)
        metadata = self._parquet.metadata
        if metadata.num_rows == 0:
            raise InputError(f"{file.name}: has no rows; remove it from the input")
        self._row_number, self._start, self._stop = 1, 0, metadata.num_row_groups
        self.size = sum(metadata.row_group(g).total_byte_size for g in range(self._stop))

    def seek(self, start: int, stop: int, row: int) -> None:
        self._start, self._stop, self._row_number = start, stop, row

    def rows(self) -> Iterator[Row]:
        for group in range(self._start, self._stop):
            metadata = self._parquet.metadata.row_group(group)
            last = self._row_number + metadata.num_rows - 1
            for values in self._row_group(group):
                is_last = self._row_number == last
                self.mark = group + 1 if is_last else None
                self.position += metadata.total_byte_size if is_last else 0
                yield Row(self._row_number, values)
                self._row_number += 1

    def _row_group(self, group: int) -> Iterator[dict[str, Any]]:
        batches = self._parquet.iter_batches(
            BATCH_ROWS, row_groups=[group], columns=self.columns, use_threads=False
        )
        try:
            for batch in batches:
                columns = [_to_python(batch.column(name)) for name in self.columns]
                for values in zip(*columns, strict=True):
                    yield dict(zip(self.columns, values, strict=True))
        except (pa.ArrowException, OSError) as error:
            raise InputError(f"{self.file.name}: row group {group} is damaged: {error}") from None


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
