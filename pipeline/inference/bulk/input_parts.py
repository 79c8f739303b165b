"""The rows of an input in parts of a fixed number of rows, files in order."""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from pipeline.corpus.readers.inputs import InputSource
from pipeline.corpus.row import Row
from pipeline.errors import InputError
from pipeline.inference.run_input import OpenedFile, RawInput, RunInput, local_copy

FIRST_ROWS = 1000
"""Rows of the first file from which the types of columns are determined."""


class Place(NamedTuple):
    """A position in an input: before row `row_in_file` of a file, which is row `row` in total."""

    row: int
    file: int
    row_in_file: int


START = Place(0, 0, 0)


class Wanted(Protocol):
    """The parts to read."""

    def next_from(self, part: int) -> int | None:
        """Return the first wanted part that is not before `part`; None if there is none."""


@dataclass
class InputPart:
    """The rows of a part."""

    number: int
    start: Place
    stop: Place = START
    items: list[RawInput] = field(default_factory=list)

    def digest(self, columns: Sequence[str]) -> str:
        """Return the SHA-256 over one line of JSON per row: the list of the values of `columns`,
        the text of a line, or null for a row that cannot be read."""
        digest = hashlib.sha256()
        for item in self.items:
            digest.update(_row_text(item, columns).encode() + b"\n")
        return digest.hexdigest()


class InputRows:
    """Reads the rows of all files, one by one, from a position on. Used in a `with` block."""

    def __init__(
        self,
        run_input: RunInput,
        sources: Sequence[InputSource],
        keep: Sequence[str],
        start: Place = START,
    ) -> None:
        self._input, self._sources, self._keep = run_input, sources, keep
        self._start = start
        self.place = Place(start.row - start.row_in_file, start.file - 1, 0)
        self.ended = False
        """Whether there are no more rows."""
        self._stack = ExitStack()
        self._file: OpenedFile | None = None
        self._rows: Iterator[Row] = iter(())

    def __enter__(self) -> "InputRows":
        self._open_next()
        self.skip(self._start.row_in_file)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def read(self) -> RawInput | None:
        """Return the next row; None at the end of the input. Raises InputError."""
        while not self.ended:
            row = next(self._rows, None)
            if row is not None and self._file:
                self._advance(1)
                return self._file.raw_input(row)
            self._open_next()
        return None

    def skip(self, count: int) -> None:
        """Skip rows, up to the end of the input. Raises InputError."""
        target = self.place.row + count
        while self.place.row < target:
            reader = self._file.reader if self._file else None
            if reader and (skipped := reader.skip(target - self.place.row)):
                self._advance(skipped)
            elif self.read() is None:
                return

    def share_of_file(self) -> float:
        """Return the share of the current file that has been read, from 0 to 1."""
        reader = self._file.reader if self._file else None
        if reader is None:
            return 0.0
        is_whole = reader.file.raw is None or reader.file.is_plain
        position = reader.position
        share = position / max(reader.size, 1) if is_whole else reader.file.share_read(position)
        return min(share, 1.0)

    def _advance(self, rows: int) -> None:
        row, file, row_in_file = self.place
        self.place = Place(row + rows, file, row_in_file + rows)

    def _open_next(self) -> None:
        self._stack.close()
        index = self.place.file + 1
        self.place = Place(self.place.row, index, 0)
        if index == len(self._sources):
            self._file, self.ended = None, True
            return
        is_one = len(self._sources) == 1
        context = self._input.opened(self._sources[index], self._keep, is_one=is_one)
        self._file = self._stack.enter_context(context)
        self._rows = iter(self._file.rows)


class InputParts:
    """Reads the parts of an input. Used in a `with` block.

    Attributes:
        rows: Number of rows before the current position.
        ended: Whether the last row has been read; then `rows` is the total number of rows.
        damaged: Whether the next row cannot be read.
    """

    def __init__(
        self,
        run_input: RunInput,
        sources: Sequence[InputSource],
        sizes: Sequence[int],
        keep: Sequence[str],
        rows_per_part: int,
    ) -> None:
        """`sizes` are the sizes of the files in bytes; `keep` are columns to read in addition to
        those of the run."""
        self._input, self._sources = run_input, list(sources)
        self._sizes, self._rows_per_part, self._keep = sizes, rows_per_part, keep
        self._current: InputRows | None = None
        self._stack = ExitStack()
        self.rows, self.ended, self.damaged = 0, False, False

    def __enter__(self) -> "InputParts":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def share(self) -> float:
        """The share of the input's bytes before the current position, from 0 to 1."""
        if self._current is None:
            return 0.0
        file = self._current.place.file
        own = self._sizes[file] if 0 <= file < len(self._sizes) else 0
        read = sum(self._sizes[: max(file, 0)]) + own * self._current.share_of_file()
        return read / max(sum(self._sizes), 1)

    def first_rows(self) -> tuple[list[Row], dict[str, Any]]:
        """Return the first rows, and the Arrow types of their columns if the file has any.

        Raises InputError if a column is missing, or if there are no rows.
        """
        self._sources[0] = self._stack.enter_context(local_copy(self._sources[0]))
        is_one = len(self._sources) == 1
        for source in self._sources:
            with self._input.opened(source, self._keep, is_one=is_one) as file:
                if rows := list(islice(file.rows, FIRST_ROWS)):
                    return rows, (file.reader.arrow_types() if file.reader else None) or {}
        raise InputError(f"{self._input.name}: has no rows; give a file with rows")

    def parts(self, wanted: Wanted, start: Place = START) -> Iterator[InputPart]:
        """Yield the wanted parts from a position on, which is the start of a part.

        `wanted` is asked for the next part after each part. If a file is damaged, the parts before
        the damage are yielded before InputError is raised.
        """
        size = self._rows_per_part
        self._current = InputRows(self._input, self._sources, self._keep, start)
        try:
            with self._current as rows:
                while (number := wanted.next_from(rows.place.row // size)) is not None:
                    rows.skip(number * size - rows.place.row)
                    part = InputPart(number, rows.place)
                    while len(part.items) < size and (item := rows.read()) is not None:
                        part.items.append(item)
                    part.stop = rows.place
                    self.rows, self.ended = rows.place.row, rows.ended
                    if part.items:
                        yield part
                    if rows.ended:
                        return
        except InputError:
            self.damaged = True
            raise
        finally:
            self.rows = self._current.place.row


def _row_text(item: RawInput, columns: Sequence[str]) -> str:
    if item.line is not None:
        return json.dumps(item.line)
    values = item.row.values
    return json.dumps(values and [values[name] for name in columns], default=plain)


def plain(value: Any) -> str:
    """Return a value that JSON does not support as text: bytes in base64, others by `str`."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else str(value)
