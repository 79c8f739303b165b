"""Makes each input file readable from any mark, by a copy in the work folder if needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.corpus.readers.base import check_columns
from pipeline.corpus.readers.download import FileVersion, fetch
from pipeline.corpus.readers.inputs import InputFile, InputSource
from pipeline.corpus.readers.opening import (
    COPY,
    LAID_OUT,
    is_laid_out,
    is_plain,
    open_corpus_file,
    plain_chunks,
)
from pipeline.corpus.readers.parallel_files import ParallelFiles, open_parallel_files
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.worker_pool import advance
from pipeline.storage.atomic import atomic_file

ROW_GROUP_ROWS = 1024
ROW_GROUP_BYTES = 1 << 23


def materialize(file: InputFile, settings: CorpusSettings, target: Callable[[str], Path]) -> Path:
    """Return a path from which the rows of an input file can be read from any mark.

    This is the file itself if possible. A remote file is downloaded; a file that is compressed, not
    in UTF-8 or not laid out by rows is converted; and parallel files are converted to Parquet.
    Existing results are reused. `target` returns the path in the work folder for
    content of a given kind, such as "raw".
    """
    if table := _open_table(file, settings):
        return _convert_to_parquet(table, target("raw.parquet"))
    path = file.path
    if path is None:
        path = target("download")
        chunks = fetch(file.name, FileVersion(file.bytes, file.version))
        _write_chunks(path, ((chunk, len(chunk)) for chunk in chunks))
    if is_plain(path, file.name, settings):
        return path
    # The bytes of a remote file are counted when it is downloaded.
    is_local = file.path is not None
    plain = target(f"raw{LAID_OUT if is_laid_out(path, file.name, settings) else COPY}")
    chunks_and_sizes = plain_chunks(path, file.name, settings)
    _write_chunks(plain, ((chunk, size * is_local) for chunk, size in chunks_and_sizes))
    return plain


@contextmanager
def open_rows(
    settings: CorpusSettings, source: InputSource, columns: Sequence[str]
) -> Iterator[Iterable[Row]]:
    """Open a local source and yield an iterable over all of its rows, without making a copy."""
    if context := _open_table(source, settings):
        with context as table:
            check_columns(columns, list(table.types), source.name)
            yield (Row(number, values) for number, values in enumerate(table, 1))
    else:
        assert source.path is not None, "a remote file"
        with open_corpus_file(settings, source.path, columns, source.name) as reader:
            yield reader


def _open_table(
    file: InputFile | InputSource, settings: CorpusSettings
) -> AbstractContextManager[ParallelFiles] | None:
    """Open parallel files; None for a file of rows."""
    if not file.sides:
        return None
    files = {c: (s.name, s.path) for c, s in file.sides.items() if s.path}
    return open_parallel_files(files, settings.encoding)


def _convert_to_parquet(context: AbstractContextManager[ParallelFiles], path: Path) -> Path:
    if not path.exists():
        with context as table, atomic_file(path) as file:
            write_parquet(table, file)
    return path


def write_parquet(table: ParallelFiles, file: IO[bytes]) -> None:
    """Write a table's rows as Parquet, in row groups that fit in memory."""
    schema = pa.schema(table.types)
    reported = 0
    with pq.ParquetWriter(file, schema, use_dictionary=False, write_statistics=False) as writer:
        for rows in _row_groups(table):
            columns = [
                _arrow_array([row[name] for row in rows], dtype)
                for name, dtype in table.types.items()
            ]
            writer.write_batch(pa.record_batch(columns, schema=schema))
            advance(table.position - reported)
            reported = table.position


def _row_groups(table: ParallelFiles) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows in lists that are limited in rows and in bytes."""
    group: list[dict[str, Any]] = []
    size = 0
    for row in table:
        group.append(row)
        size += sum(len(value) for value in row.values() if isinstance(value, (str, bytes)))
        if len(group) == ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _arrow_array(values: list[Any], dtype: Any) -> Any:
    """Convert values to an Arrow array. Lone surrogates in strings, which represent bytes that are
    not UTF-8, become these bytes again."""
    if not pa.types.is_string(dtype):
        return pa.array(values, dtype)
    encoded = [value.encode("utf-8", "surrogateescape") for value in values]
    return pa.array(encoded, pa.binary()).view(dtype)


def _write_chunks(path: Path, chunks: Iterable[tuple[bytes, int]]) -> None:
    """Write chunks to a file unless it exists. Each comes with the number of input bytes that it
    completes, for the progress bar."""
    if not path.exists():
        with atomic_file(path) as file:
            for chunk, input_bytes in chunks:
                file.write(chunk)
                advance(input_bytes)
