"""Arrow and Feather files, including the files of Hugging Face datasets."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import IO, Any

import pyarrow as pa

from pipeline.corpus.readers.arrow_values import ArrowColumns, binary_type
from pipeline.corpus.readers.base import NoRowsError, RawFile, Reader
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError

FILE_MAGIC, FEATHER_1_MAGIC, STREAM_MAGIC = b"ARROW1", b"FEA1", b"\xff\xff\xff\xff"
FEATHER_1_TO_ARROW = """
import sys
import pyarrow as pa
from pyarrow import feather
table = feather.read_table(pa.BufferReader(sys.stdin.buffer.read()), memory_map=False)
with pa.ipc.new_stream(sys.stdout.buffer, table.schema) as stream:
    stream.write_table(table)
"""


class Arrow(Reader):
    """Reads one record batch after another. A mark is the index of a batch.

    A file is in Arrow's IPC file format (also Feather 2), its IPC stream format, or Feather 1. A
    damaged batch is skipped; in a stream, all batches after it are skipped, too.
    """

    suffixes = (".arrow", ".feather", ".ipc")
    magic = (FILE_MAGIC, FEATHER_1_MAGIC)
    seeks = True

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        super().__init__(file, columns, settings)
        try:
            self._batches = _open(file)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise InputError(
                f"{file.name}: is not a valid Arrow file: {' '.join(str(error).split())}; download "
                "or write it again"
            ) from None
        self._columns = ArrowColumns(self._batches.schema, columns, file.name)
        self._row_number, self._start = 1, 0
        self._stop: int | None = None
        self.size = max(self.size, 1)

    def list_columns(self) -> list[str]:
        return list(self._batches.schema.names)

    def arrow_types(self) -> dict[str, Any] | None:
        return self._columns.types

    def mark_near(self, share: float) -> int | None:
        count = self._batches.count
        return None if count is None else int(share * count)

    def seek(self, start: int, stop: int, row: int) -> None:
        self._start, self._stop, self._row_number = start, stop, row

    def rows(self) -> Iterator[Row]:
        first = self._row_number
        for index, batch in self._batches.between(self._start, self._stop):
            if isinstance(batch, str):
                self.mark, self.position = index + 1, self.size
                yield Row(self._row_number, None, 0, SkipReason.DAMAGED, batch)
                self._row_number += 1
                continue
            last = self._row_number + batch.num_rows - 1
            for record in self._columns.records(batch):
                is_last = self._row_number == last
                self.mark = index + 1 if is_last else None
                self.position += batch.nbytes if is_last else 0
                yield Row(self._row_number, record)
                self._row_number += 1
        if self._stop is None:
            self.size = max(self.position, 1)
            if self._row_number == first:
                raise NoRowsError(f"{self.file.name}: has no rows; remove it from the input")


class _Batches:
    """The record batches of a file, with random access."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.schema: pa.Schema = reader.schema

    @property
    def count(self) -> int | None:
        """The number of batches; None if only reading shows it."""
        return int(self._reader.num_record_batches)

    def between(self, start: int, stop: int | None) -> Iterator[tuple[int, Any]]:
        """Yield the index and content of each batch with rows; a text describes a damaged one."""
        count = self._reader.num_record_batches
        for index in range(start, count if stop is None else stop):
            try:
                batch = _checked(self._reader.get_batch(index))
            except (pa.ArrowException, OSError) as error:
                yield index, f"batch {index}: {' '.join(str(error).split())}"
                continue
            if batch.num_rows:
                yield index, batch


class _StreamedBatches(_Batches):
    """The record batches of a stream, which are read in order."""

    @property
    def count(self) -> int | None:
        return None

    def between(self, start: int, stop: int | None) -> Iterator[tuple[int, Any]]:
        index = 0
        while stop is None or index < stop:
            try:
                batch = self._reader.read_next_batch()
                if index >= start:
                    _checked(batch)
            except StopIteration:
                return
            except (pa.ArrowException, OSError) as error:
                yield index, f"batch {index} and all after it: {' '.join(str(error).split())}"
                return
            if index >= start and batch.num_rows:
                yield index, batch
            index += 1


class _TableBatches(_Batches):
    """The record batches of a table in memory."""

    def __init__(self, table: Any) -> None:
        self.schema, self._parts = table.schema, table.to_batches()
        self._reader = self

    @property
    def num_record_batches(self) -> int:
        return len(self._parts)

    def get_batch(self, index: int) -> Any:
        return self._parts[index]


class _Bounded:
    """Wraps a file; reads no more bytes than are left, because damaged files declare huge sizes."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = file.seek(0, os.SEEK_END)
        self.seek, self.close = file.seek, file.close
        file.seek(0)

    @property
    def closed(self) -> bool:
        return self._file.closed

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._file.tell(), 0)
        return self._file.read(left if size < 0 else min(size, left))


def _open(file: RawFile) -> _Batches:
    stream: Any = file.stream
    head = file.stream.read(len(FILE_MAGIC))
    file.stream.seek(0)
    if head.startswith(FEATHER_1_MAGIC):
        return _TableBatches(_feather_1(file))
    bounded: Any = _Bounded(stream)
    if head == FILE_MAGIC:
        return _Batches(pa.ipc.open_file(pa.PythonFile(bounded, "r")))
    # With a memory map, the batches before the first one that is needed are not read.
    source: Any = pa.memory_map(str(file.path)) if file.is_plain else pa.PythonFile(bounded, "r")
    return _StreamedBatches(pa.ipc.open_stream(source))


def _feather_1(file: RawFile) -> Any:
    """Return the table in a Feather 1 file. Raises ValueError if it is damaged.

    It is read in a separate process, because a damaged file can crash pyarrow.
    """
    os.lseek(file.stream.fileno(), 0, os.SEEK_SET)
    command = [sys.executable, "-c", FEATHER_1_TO_ARROW]
    result = subprocess.run(command, stdin=file.stream, capture_output=True, check=False)
    if result.returncode:
        last = result.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ValueError(last or f"pyarrow ends with status {result.returncode}")
    return pa.ipc.open_stream(result.stdout).read_all()


def _checked(batch: Any) -> Any:
    """Return a batch. Raises ArrowInvalid if its buffers are damaged; strings may be invalid."""
    for column in batch.columns:
        column.view(binary_type(column.type)).validate(full=True)
    return batch
