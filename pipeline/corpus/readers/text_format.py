"""Base class of the readers of text files."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from pipeline.corpus.readers.base import (
    COLUMN_CHECK_RECORDS,
    NoRowsError,
    RawFile,
    Reader,
    Record,
    check_columns,
    has_nested,
    nested,
    own_errors,
    require_columns,
)
from pipeline.corpus.readers.lines import MAX_LINE_BYTES, LineReader
from pipeline.corpus.row import Row, Unreadable
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError

Read = Record | SkipReason | Unreadable | None
"""The types that `TextFormat.records` yields for a row."""


class TextFormat(Reader):
    """Reads the rows of a text file, which a subclass makes of its lines in `records`."""

    is_text = True
    mark: int
    note: str = ""
    """End of the error for a missing column, which explains where `names` come from."""

    def __init__(self, file: RawFile, columns: Sequence[str], settings: CorpusSettings) -> None:
        super().__init__(file, columns, settings)
        self._lines = LineReader(file.stream, file.name)
        self._row = 1
        with own_errors(type(self), self.place):
            self.available = tuple(self.header(self._lines))
        """All columns of this file; empty if the records name them."""
        if self.available:
            check_columns(columns, self.available, file.name, self.note)
        self._update()

    def header(self, lines: LineReader) -> Sequence[str]:
        """Read the header, if there is one, and return the names of all columns.

        Without names, a column must be in one of the first records, and is None where it is
        missing.
        """
        return (self.names,) if isinstance(self.names, str) else self.names

    @abstractmethod
    def records(self, lines: LineReader) -> Iterator[Read]:
        """Yield a dict from column to value for each row.

        For a row that cannot be read, yield an `Unreadable`, a SkipReason, or None if it has more
        or fewer fields than columns; the row is skipped and counted. A line ends with its line
        break. The file may be divided between any two rows, so a row must be yielded before a line
        of the next one is read (or see `lines.lookahead`), and must not depend on earlier rows.
        """

    def seek(self, start: int, stop: int, row: int) -> None:
        self._lines.seek(start, stop, self.next_line)
        self._row = row
        self._update()

    def rows(self) -> Iterator[Row]:
        lines, has_lines = self._lines, self.file.has_lines
        for record in self._selected():
            self._update()
            line = (lines.record_line or lines.line_number) if has_lines else 0
            lines.record_line = 0
            if isinstance(record, dict):
                yield Row(self._row, record, line)
            elif isinstance(record, Unreadable):
                yield Row(self._row, None, line, *record)
            else:
                yield Row(self._row, None, line, record or SkipReason.WRONG_FIELDS)
            self._row += 1
        self._update()
        if self._row == 1:
            raise NoRowsError(f"{self.file.name}: has no rows; remove it from the input")

    def list_columns(self) -> list[str]:
        if self.available:
            return list(self.available)
        first = islice(self._records(), COLUMN_CHECK_RECORDS)
        return list(
            dict.fromkeys(n for record in first if isinstance(record, dict) for n in record)
        )

    def mark_near(self, share: float) -> int | None:
        if not self.file.is_plain:
            return None
        stream = self.file.stream
        stream.seek(int(share * self.size))
        stream.readline(MAX_LINE_BYTES)
        return stream.tell()

    def place(self) -> str:
        line = self._lines.line_number
        return f"{self.file.name}, line {line}" if line else self.file.name

    def _update(self) -> None:
        self.position = self._lines.offset
        self.mark = self.position - self._lines.lookahead
        self.next_line = self._lines.line_number + 1 - bool(self._lines.lookahead)

    def _selected(self) -> Iterator[Read]:
        """Yield the records with exactly the columns to read."""
        if self.available:
            wanted = set(self.columns)
            for record in self._records():
                if isinstance(record, dict) and record.keys() != wanted:
                    record = self._select(record)
                yield record
        elif self._lines.stop is None:
            pairs = ((self._nested(r), self._names(r)) for r in self._records())
            yield from require_columns(pairs, self.columns, self.file.name)
        else:
            yield from map(self._nested, self._records())

    def _records(self) -> Iterator[Read]:
        for record in self.records(self._lines):
            if record is not None and not isinstance(record, (dict, SkipReason, Unreadable)):
                raise InputError(
                    f"{self.place()}: {type(self).__name__}.records yields a "
                    f"{type(record).__name__}; it must yield a dict from column to value, or None"
                )
            yield record

    def _nested(self, record: Read) -> Read:
        if not isinstance(record, dict):
            return record
        return {column: nested(record, column) for column in self.columns}

    def _names(self, record: Read) -> Iterable[str]:
        """Return the names of the columns that a record has."""
        if not isinstance(record, dict):
            return ()
        paths = [c for c in self.columns if "." in c and has_nested(record, c)]
        return [*record, *paths] if paths else record

    def _select(self, record: Record) -> Record:
        for column in self.columns:
            if column not in record:
                raise InputError(
                    f"{self.place()}: {type(self).__name__}.records yields a dict without the "
                    f"column {column!r}; it must have a value, or None, for each of "
                    f"{', '.join(map(repr, self.available))}"
                )
        return {column: record[column] for column in self.columns}
