"""Base class of readers, the components that `corpus.format` chooses."""

import difflib
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

from pipeline import components
from pipeline.components import Component
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import HeadraceError, InputError
from pipeline.settings import Conflict, Sections, unused

COLUMN_CHECK_RECORDS = 1000
"""Each column must appear in one of this many first records, if records may omit columns."""

Record = dict[str, Any]
"""The values of a row by column."""


class RawFile(NamedTuple):
    """An input file, opened."""

    name: str
    """Name of the file in error messages."""
    path: Path
    stream: IO[bytes]
    """The content, decompressed; empty for a folder."""
    size: int
    """Bytes on disk."""


class Reader(Component, ABC):
    """Reads the rows of an input file; iterating over a reader yields them.

    A file can be read in parts: the rows between two marks are those that a reader yields after
    `seek`. Raises InputError if the file is damaged, has no rows or lacks one of the columns.
    """

    Settings: ClassVar[type[CorpusSettings]] = CorpusSettings
    """The format's keys in the section `corpus`, added to those of all corpora."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Ends of the names of such files, such as `.csv`, in lower case and without `.gz`."""
    gzippable: ClassVar[bool] = True
    """Whether a file may be gzipped."""
    seeks: ClassVar[bool] = False
    """Whether the reader moves back and forth in a file: a gzipped file is decompressed first."""
    reads_folder: ClassVar[bool] = False
    """Whether the reader reads a folder of images instead of a file."""

    settings: Any
    """The section `corpus`."""
    mark: int | None
    """Place of the next row, such as a byte offset; None if the file cannot be divided there."""
    position: int
    """Bytes read so far, out of `size`."""
    size: int

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        """`columns` are the columns to read."""
        self.file, self.columns, self.settings = file, list(columns), settings
        self.mark, self.position, self.size = 0, 0, file.size

    @classmethod
    def recognizes(cls, name: str, head: bytes = b"") -> bool:
        """Return whether a file is of this format, given its name without `.gz`.

        `head` are the first bytes of its content, or empty if they are not known.
        """
        return bool(cls.suffixes) and name.lower().endswith(cls.suffixes)

    @abstractmethod
    def seek(self, start: int, stop: int, row: int) -> None:
        """Read from the mark `start`, whose row has the number `row`, to the mark `stop`."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield the rows, whose values have all `columns`.

        Before each row is yielded, `mark` and `position` are set to those after the row.
        """

    def place(self) -> str:
        """Return the place that was read last, for an error message."""
        return self.file.name

    def __iter__(self) -> Iterator[Row]:
        with own_errors(type(self), self.place):
            yield from self.rows()


@contextmanager
def own_errors(reader: type[Reader], place: Callable[[], str]) -> Iterator[None]:
    """Convert an exception in the code of a reader that is not built in to InputError, with the
    line of that code."""
    try:
        yield
    except (HeadraceError, MemoryError):
        raise
    except Exception as error:
        if reader.__module__.startswith("pipeline."):
            raise
        path = str(sys.modules[reader.__module__].__file__)
        frames = traceback.extract_tb(error.__traceback__)
        own = [f"{Path(path).name}, line {f.lineno}" for f in frames if f.filename == path]
        text = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(":")
        raise InputError(
            f"{place()}: {reader.__name__} failed{f' ({own[-1]})' if own else ''}: {text}; correct "
            "the reader, or this place in the file"
        ) from None


def reads_folders(file_format: str) -> bool:
    """Return whether a value of `corpus.format` chooses a reader of folders."""
    return bool(file_format) and bool(components.load("reader", file_format).reads_folder)


def reader_code(file_format: str) -> dict[str, str]:
    """Return the SHA-256 of the code of the reader that a value of `corpus.format` chooses, by that
    value; empty if the reader is built in."""
    source = components.source("reader", file_format) if file_format else None
    return {file_format: source.sha256} if source else {}


def needs_field(config: Sections, field: str) -> Iterator[Conflict]:
    """Yield a conflict of `corpus.format` with a task that has no field of a kind."""
    kind = components.load("field", field)
    tasks = {name: components.load("task", name) for name in components.names("task")}
    if kind not in components.with_used(components.load("task", config.task.name)):
        fitting = [name for name, task in tasks.items() if kind in components.with_used(task)]
        yield unused("corpus.format", "task.name", fitting, config.task.name)


def check_columns(
    columns: Sequence[str], available: Sequence[str], name: str, note: str = ""
) -> None:
    """Raise InputError unless each of `columns` is available exactly once.

    `note` is appended to the error; it explains where the available names come from.
    """
    for column in columns:
        if available.count(column) > 1:
            raise InputError(
                f"{name}: has {available.count(column)} columns {column!r}; rename them"
            )
        if column not in available:
            matches = difflib.get_close_matches(column, available, 1)
            hint = f" (did you mean {matches[0]!r}?)" if matches else ""
            raise InputError(
                f"{name}: has no column {column!r}{hint}; "
                f"it has {', '.join(map(repr, available))}{note}"
            )


def require_columns(
    records: Iterable[tuple[Any, Iterable[str]]], columns: Sequence[str], name: str
) -> Iterator[Any]:
    """Yield the records of (record, names of the columns that the file has for it) pairs.

    Raises InputError if one of `columns` is in none of the first `COLUMN_CHECK_RECORDS` records.
    """
    available: dict[str, None] = {}
    count = 0
    for record, names in records:
        count += 1
        if count <= COLUMN_CHECK_RECORDS:
            available |= dict.fromkeys(names)
            if count == COLUMN_CHECK_RECORDS:
                check_columns(columns, list(available), name)
        yield record
    if 0 < count < COLUMN_CHECK_RECORDS:
        check_columns(columns, list(available), name)
