"""Lines of text files."""

from collections import deque
from collections.abc import Iterator
from typing import IO

from pipeline.corpus.readers.content import READ_ERRORS, damaged
from pipeline.errors import InputError

MAX_LINE_BYTES = 1 << 28
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""The UTF-8 byte order mark, at the start of a file or, in concatenated files, of a line."""


class _LineAfterMark(str):
    """A line that had a byte order mark, which is removed."""

    __slots__ = ()


class LineReader:
    """Iterates over the decoded lines of a byte stream and tracks the position.

    A byte order mark at the start of a line is removed. Bytes that are not UTF-8 become lone
    surrogates. Raises InputError if the stream is damaged or has a line that is too long.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.name = name  # of the file, in errors
        self.offset = 0  # byte offset after the last line
        self.lookahead = 0  # how many bytes before `offset` belong to the record that comes next
        self.stop: int | None = None  # byte offset to stop at
        self.line_number = 0  # of the last line; the first line is 1
        self.record_line = 0  # of the first line of the last record; 0: it is the last line
        self.record: list[str] | None = None  # if set to a list, lines are also added to it
        self._stream = stream
        self._returned: deque[str] = deque()

    def __iter__(self) -> Iterator[str]:
        return self

    def peek_first(self) -> str:
        """Return the file's first line, and rewind so that it is read again."""
        line = next(self, "")
        self._stream.seek(0)
        self.offset = self.line_number = 0
        return line

    def seek(self, start: int, stop: int, line: int) -> None:
        """Read from the byte offset `start`, where line number `line` begins, up to `stop`."""
        self._stream.seek(start)
        self._returned.clear()
        self.offset, self.stop, self.lookahead = start, stop, 0
        self.line_number, self.record_line = line - 1, 0

    def unread(self, lines: list[str]) -> None:
        """Put back the lines that were read last, so that they are read again."""
        self._returned.extendleft(reversed(lines))
        self.line_number -= len(lines)
        self.offset -= sum(_size(line) for line in lines)

    def __next__(self) -> str:
        if self._returned:
            line = self._returned.popleft()
            self.offset += _size(line)
        else:
            line = self._read()
        self.line_number += 1
        if self.record is not None:
            self.record.append(line)
        return line

    def _read(self) -> str:
        if self.stop is not None and self.offset >= self.stop:
            raise StopIteration
        try:
            data = self._stream.readline(MAX_LINE_BYTES)
        except READ_ERRORS as error:
            raise damaged(self.name, error) from None
        if not data:
            raise StopIteration
        self.offset += len(data)
        if len(data) == MAX_LINE_BYTES:
            raise InputError(
                f"{self.name}, line {self.line_number + 1}: is longer than {MAX_LINE_BYTES} bytes"
            )
        if data.startswith(BYTE_ORDER_MARK):
            return _LineAfterMark(
                data.removeprefix(BYTE_ORDER_MARK).decode("utf-8", "surrogateescape")
            )
        return data.decode("utf-8", "surrogateescape")


def _size(line: str) -> int:
    """Return the size in bytes of a line in the file."""
    removed = len(BYTE_ORDER_MARK) if isinstance(line, _LineAfterMark) else 0
    return len(line.encode("utf-8", "surrogateescape")) + removed
