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
from pipeline.wording import shorten

COLUMN_CHECK_RECORDS = 1000
"""Number of first records, one of which must have each column, if records may omit columns."""

MAX_NAMES, MAX_NAME_CHARACTERS = 20, 60
"""Maximum numbers of columns in an error, and of characters of a column's name."""

Record = dict[str, Any]
"""The values of a row by column."""
Layout = Callable[[IO[bytes], str], Iterator[bytes]]


class NoRowsError(InputError):
    """A file without rows; it is left out if other files have rows."""


class RawFile(NamedTuple):
    """An input file, opened."""

    name: str
    """Name of the file in error messages."""
    path: Path
    stream: IO[bytes]
    """The content, decompressed and, for a text format, in UTF-8; empty for a folder."""
    size: int
    """Bytes on disk."""
    is_plain: bool = True
    """Whether the content is identical to the file at `path`."""
    has_lines: bool = True
    """Whether the content has the same lines as the file, so that errors can have line numbers."""
    raw: IO[bytes] | None = None
    """The file itself, which the content is made of; None for a folder."""
    copied: int = 0
    """Bytes of the content if it is a copy, which may have been made of a part of the file."""

    def share_read(self, position: int) -> float:
        """Return the approximate share of the file that has been read, given the position in its
        content."""
        if self.raw is None or self.is_plain:
            return position / max(self.size, 1)
        return self.raw.tell() / max(self.size, 1) * (position / self.copied if self.copied else 1)


class Reader(Component, ABC):
    """Reads the rows of an input file; iterating over a reader yields them.

    A file can be read in parts: the rows between two marks are those that a reader yields after
    `seek`. Raises InputError if the file is damaged, has no rows or lacks one of the columns.
    """

    Settings: ClassVar[type[CorpusSettings]] = CorpusSettings
    """The format's keys in the section `corpus`, added to those of all corpora."""
    suffixes: ClassVar[tuple[str, ...]] = ()
    """Suffixes of such files, such as `.csv`, in lower case and without `.gz`."""
    magic: ClassVar[tuple[bytes, ...]] = ()
    """First bytes by which files of this format are recognized, independent of their names."""
    seeks: ClassVar[bool] = False
    """Whether the reader needs random access to a file: a compressed file is copied first."""
    is_text: ClassVar[bool] = False
    """Whether files are text, which is decoded from `corpus.encoding`."""
    names: ClassVar[tuple[str, ...]] = ()
    """All columns of such a file; empty if a header or the records name them."""
    reads_folder: ClassVar[bool] = False
    """Whether the reader reads a folder instead of a file."""

    settings: Any
    """The section `corpus`."""
    mark: int | None
    """Place of the next row, such as a byte offset; None if the file cannot be divided there."""
    position: int
    """Bytes read so far, out of `size`."""
    size: int
    next_line: int = 0
    """Number of the line after `mark`; 0 if the format has no lines."""

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        """`columns` are the columns to read."""
        self.file, self.columns, self.settings = file, list(columns), settings
        self.mark, self.position, self.size = 0, 0, file.size

    @classmethod
    def recognizes(cls, name: str, head: bytes = b"") -> bool:
        """Return whether a file is of this format, given its name without `.gz`.

        `head` are the first bytes of its content. They are given only if no reader recognizes the
        file by its name alone.
        """
        return bool(cls.suffixes) and name.lower().endswith(cls.suffixes)

    @classmethod
    def recognizes_folder(cls, path: Path) -> bool:
        """Return whether the reader, which reads folders, can read this one."""
        return False

    @classmethod
    def layout(cls, head: bytes) -> Layout | None:
        """Return a function that converts the content of a file to the layout that is read; None if
        the content has this layout already.

        `head` has the first bytes of the content. The function takes a stream and the file's name
        in errors, and yields the content in chunks.
        """
        return None

    @abstractmethod
    def seek(self, start: int, stop: int, row: int) -> None:
        """Read from the mark `start`, whose row has the number `row`, to the mark `stop`.

        If the format has lines, `next_line` must be set to the number of the line after `start`
        first.
        """

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Yield the rows, whose values have all `columns`.

        Before each row is yielded, `mark` and `position` are set to those after the row.
        """

    def list_columns(self) -> list[str]:
        """Return the names of all columns of the file, as far as its first rows show them.

        Called instead of `rows`, on a reader that was made without columns to read.
        """
        return [self.names] if isinstance(self.names, str) else list(self.names)

    def mark_near(self, share: float) -> int | None:
        """Return the mark of a row at about this share of the file, from 0 to 1; None if it can
        only be found by reading all rows before it."""
        return None

    def count_rows(self) -> int | None:
        """Return the number of rows; None if it can only be found by reading all of them."""
        return None

    def skip(self, rows: int) -> int:
        """Skip up to this many rows without reading their values; return the number skipped.

        May be called before `rows` and between two of its rows. By default, nothing is skipped.
        """
        return 0

    def arrow_types(self) -> dict[str, Any] | None:
        """Return the Arrow type of each column to read; None if the file does not have types."""
        return None

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
            hint = f" (did you mean {_quoted(matches[0])}?)" if matches else ""
            more = f" and {len(available) - MAX_NAMES} others" * (len(available) > MAX_NAMES)
            raise InputError(
                f"{name}: has no column {column!r}{hint}; "
                f"it has {', '.join(map(_quoted, available[:MAX_NAMES]))}{more}{note}"
            )


def _quoted(name: str) -> str:
    """Return a column's name for an error, shortened: a row read as the header has long names."""
    return repr(shorten(name, MAX_NAME_CHARACTERS))


def nested(record: Record, column: str) -> Any:
    """Return the value of a column in a record, or None.

    A name with dots, such as `body.text`, may also be a path through nested objects and lists,
    whose keys may contain dots, too.
    """
    if column in record or "." not in column:
        return record.get(column)
    return _follow(record, column.split("."))


def _follow(value: Any, keys: Sequence[str]) -> Any:
    """Return the value at a path; None if there is none."""
    if not keys:
        return value
    if isinstance(value, list):
        key = keys[0]
        is_index = key.isdecimal() and int(key) < len(value)
        return _follow(value[int(key)], keys[1:]) if is_index else None
    if isinstance(value, dict):
        for end in range(1, len(keys) + 1):
            inner = value.get(".".join(keys[:end]))
            if inner is not None and (found := _follow(inner, keys[end:])) is not None:
                return found
    return None


def has_nested(record: Record, column: str) -> bool:
    """Return whether a record has a column, as `nested` looks it up."""
    return column in record or nested(record, column) is not None


def require_columns(
    records: Iterable[tuple[Any, Iterable[str]]], columns: Sequence[str], name: str
) -> Iterator[Any]:
    """Yield the records of pairs (record, columns of the record), and check the columns.

    A record that is not a dict is a row that cannot be read. Raises InputError if one of `columns`
    is in none of the first `COLUMN_CHECK_RECORDS` records.
    """
    available: dict[str, None] = {}
    count = 0
    for record, names in records:
        if isinstance(record, dict):
            count += 1
            if count <= COLUMN_CHECK_RECORDS:
                available |= dict.fromkeys(names)
                if count == COLUMN_CHECK_RECORDS:
                    check_columns(columns, list(available), name)
        yield record
    if 0 < count < COLUMN_CHECK_RECORDS:
        check_columns(columns, list(available), name)
