"""Parquet."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.readers.arrow_values import ArrowColumns
from pipeline.corpus.readers.base import NoRowsError, RawFile, Reader, Record
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError

BATCH_ROWS = 1024


class Parquet(Reader):
    """Reads one row group after another. A mark is the index of a row group.

    The rows of a damaged row group are skipped.
    """

    suffixes = (".parquet", ".pq")
    magic = (b"PAR1",)
    seeks = True

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        super().__init__(file, columns, settings)
        try:
            self._parquet = pq.ParquetFile(file.stream, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{file.name}: is not a valid Parquet file: {' '.join(str(error).split())}; "
                "download or write it again"
            ) from None
        self._columns = ArrowColumns(self._parquet.schema_arrow, columns, file.name)
        metadata = self._parquet.metadata
        if metadata.num_rows == 0:
            raise NoRowsError(f"{file.name}: has no rows; remove it from the input")
        self._row_number, self._next, self._stop = 1, 0, metadata.num_row_groups
        self.size = sum(metadata.row_group(g).total_byte_size for g in range(self._stop))

    def list_columns(self) -> list[str]:
        return list(self._parquet.schema_arrow.names)

    def mark_near(self, share: float) -> int | None:
        return int(share * self._parquet.metadata.num_row_groups)

    def count_rows(self) -> int | None:
        return int(self._parquet.metadata.num_rows)

    def seek(self, start: int, stop: int, row: int) -> None:
        self._next, self._stop, self._row_number = start, stop, row

    def arrow_types(self) -> dict[str, Any] | None:
        return self._columns.types

    def skip(self, rows: int) -> int:
        if self.mark != self._next:
            return 0  # inside a row group
        skipped = 0
        while self._next < self._stop:
            metadata = self._parquet.metadata.row_group(self._next)
            if skipped + metadata.num_rows > rows:
                break
            skipped += metadata.num_rows
            self._next += 1
            self.mark = self._next
            self.position += metadata.total_byte_size
        self._row_number += skipped
        return skipped

    def rows(self) -> Iterator[Row]:
        while self._next < self._stop:
            group = self._next
            self._next += 1
            metadata = self._parquet.metadata.row_group(group)
            last = self._row_number + metadata.num_rows - 1
            for record in self._row_group(group, metadata.num_rows):
                is_last = self._row_number == last
                self.mark = group + 1 if is_last else None
                self.position += metadata.total_byte_size if is_last else 0
                if isinstance(record, str):
                    yield Row(self._row_number, None, 0, SkipReason.DAMAGED, record)
                else:
                    yield Row(self._row_number, record)
                self._row_number += 1

    def _row_group(self, group: int, rows: int) -> Iterator[Record | str]:
        """Yield the group's rows; for each that cannot be read, a description of the damage."""
        count = 0
        batches: Any = self._parquet.iter_batches(
            BATCH_ROWS, row_groups=[group], columns=self._columns.top_level, use_threads=False
        )
        try:
            for batch in batches:
                for record in self._columns.records(batch):
                    if count == rows:
                        return
                    count += 1
                    yield record
            error = "rows are missing"
        except (pa.ArrowException, OSError) as raised:
            error = " ".join(str(raised).split())
        for _ in range(rows - count):
            yield f"row group {group}: {error}"
