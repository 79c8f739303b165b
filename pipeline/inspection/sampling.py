"""Reads a bounded sample of the rows of files, with the same readers as preparation."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline import components
from pipeline.corpus.readers.base import Reader
from pipeline.corpus.readers.download import FileVersion, fetch
from pipeline.corpus.readers.formats.conll import Sentences
from pipeline.corpus.readers.inputs import InputSource, file_version
from pipeline.corpus.readers.opening import open_corpus_file
from pipeline.corpus.readers.parallel_files import open_parallel_files
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason

START_ROWS, START_BYTES = 10_000, 4 << 20
"""Maximum number of rows and bytes to read from the start; several files share them."""
PARTS, PART_ROWS, PART_BYTES = 8, 500, 1 << 18
"""Number of further parts of a file, spread evenly, and the maximum rows and bytes of each."""
FOLDER_ROWS, SENTENCES = 400, 3000
"""Maximum number of files of a folder, and of CoNLL sentences, to read from the start."""
MAX_FILES = 8
"""Maximum number of files to read: the first, the last and some in between."""
UNALIGNED_ROWS = 50
"""Number of rows at the start of a part that may be malformed because it begins inside a row; the
last malformed one of them, and all rows before it, are left out."""
MAX_COPY = START_BYTES + (2 << 20)


@dataclass
class Sample:
    """Rows of one source."""

    source: InputSource
    format: str
    """The value of `corpus.format` for this source; empty for parallel files."""
    columns: list[str]
    rows: list[Row] = field(default_factory=list)
    first: int = 0
    """Number of the rows that were read from the start."""
    total: int = 0
    """Rows of the source, exactly or as an estimate."""
    is_exact: bool = True
    bytes: int = 0


def spread(sources: Sequence[InputSource]) -> list[InputSource]:
    """Return the sources to read: at most MAX_FILES, spread evenly."""
    if len(sources) <= MAX_FILES:
        return list(sources)
    step = (len(sources) - 1) / (MAX_FILES - 1)
    return [sources[round(number * step)] for number in range(MAX_FILES)]


def read(source: InputSource, keys: Mapping[str, Any], share: float = 1.0) -> Sample:
    """Read a sample of a source.

    `keys` has the keys of the section `corpus` that set how it is read. `share` is the fraction of
    the maximum number of rows and bytes that this source may use.
    """
    if source.sides:
        return _read_parallel(source, keys, share)
    settings = reader_settings(keys)
    with local_path(source) as path:
        with open_corpus_file(settings, path, [], source.name, max_copy=MAX_COPY) as reader:
            columns = reader.list_columns()
            name = components.reference("reader", type(reader))
        with open_corpus_file(settings, path, columns, source.name, max_copy=MAX_COPY) as reader:
            size = path.stat().st_size if path.is_file() else reader.size
            sample = Sample(source, name, columns, bytes=size)
            _read(reader, sample, share)
    return sample


def reader_settings(keys: Mapping[str, Any]) -> Any:
    """Return the section `corpus` with these keys and the defaults of all others."""
    return components.make(CorpusSettings, **{"input": ["-"], **keys})


@contextmanager
def local_path(source: InputSource) -> Iterator[Path]:
    """Yield the path of a source; a remote file is downloaded."""
    if source.path is not None:
        yield source.path
        return
    version = file_version(source.name, None)
    with tempfile.NamedTemporaryFile() as file:
        for chunk in fetch(source.name, FileVersion(version.bytes, version.version)):
            file.write(chunk)
        file.flush()
        yield Path(file.name)


def _read(reader: Reader, sample: Sample, share: float) -> None:
    """Read the rows of a sample: from the start, and parts from the rest of the file."""
    rows_to_read = SENTENCES if isinstance(reader, Sentences) else START_ROWS
    rows_to_read = FOLDER_ROWS if type(reader).reads_folder else rows_to_read
    limit = max(int(rows_to_read * share), PART_ROWS)
    complete, covered = True, 0
    rows = iter(reader)
    for row in rows:
        sample.rows.append(row)
        covered = covered if reader.mark is None else reader.mark
        if len(sample.rows) >= limit or reader.position >= START_BYTES * share:
            complete = next(rows, None) is None
            break
    sample.first = len(sample.rows)
    known = reader.count_rows()
    if complete or known is not None:
        sample.total = sample.first if known is None else known
    if complete:
        return
    share_read = reader.file.share_read(reader.position)
    for number in range(1, PARTS + 1):
        mark = reader.mark_near(number / PARTS - 0.01)
        if mark is None:
            break
        if mark > covered:
            covered = mark
            sample.rows += _part(reader, mark, share)
    if known is None:
        sample.total, sample.is_exact = round(sample.first / max(share_read, 1e-9)), False


def _part(reader: Reader, mark: int, share: float) -> list[Row]:
    """Read some rows from a mark. In a text, a mark may be inside a row, which is left out."""
    reader.next_line = 1
    reader.seek(mark, 1 << 62 if type(reader).is_text else mark + _span(reader), 0)
    start = reader.position if type(reader).is_text else 0
    rows: list[Row] = []
    for row in islice(reader, max(int(PART_ROWS * share), 20)):
        rows.append(row._replace(number=0, line=0))
        if reader.position - start >= PART_BYTES:
            break
    if not type(reader).is_text:
        return rows
    bad = [n for n, row in enumerate(rows[:UNALIGNED_ROWS]) if _is_unaligned(row)]
    return rows[bad[-1] + 1 if bad else 0 :]


def _span(reader: Reader) -> int:
    """Return the maximum number of marks in a part: one row group, or several files of a folder."""
    return max(FOLDER_ROWS // PARTS, 1) if type(reader).reads_folder else 1


def _is_unaligned(row: Row) -> bool:
    reasons = (None, SkipReason.WRONG_FIELDS, SkipReason.BAD_QUOTES, SkipReason.NOT_JSON)
    return row.values is None and row.skip in reasons


def _read_parallel(source: InputSource, keys: Mapping[str, Any], share: float) -> Sample:
    files = {column: (side.name, side.path) for column, side in source.sides.items() if side.path}
    limit = int(START_ROWS * share)
    with open_parallel_files(files, str(keys.get("encoding", "utf-8"))) as table:
        size = sum(path.stat().st_size for _, path in files.values())
        sample = Sample(source, "", list(table.types), bytes=size)
        rows = iter(table)
        for number, values in enumerate(islice(rows, limit), 1):
            sample.rows.append(Row(number, values, number))
        sample.first = len(sample.rows)
        sample.is_exact = next(rows, None) is None
        share_read = 1.0 if sample.is_exact else table.position / size
        sample.total = round(sample.first / max(share_read, 1e-9))
    return sample
