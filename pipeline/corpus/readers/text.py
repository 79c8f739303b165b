"""Records of text files: a line reader that tracks its position, CSV, JSON lines and plain text."""

import csv
import difflib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from pipeline.errors import InputError

MAX_LINE_BYTES = 1 << 28
MAX_FIELD_CHARACTERS = 1 << 26  # the csv module takes four bytes for each
COLUMN_CHECK_RECORDS = 1000
"""Each column must appear in one of this many first records, if records may omit columns."""
TEXT_COLUMN = "text"
"""The only column of a plain text file."""
JSON_DECODER = json.JSONDecoder(strict=False)  # accepts control characters; only their row is bad


class LineReader:
    """Iterates over the decoded lines of a byte stream and tracks the position.

    Bytes that are not UTF-8 become lone surrogates. Raises InputError if the stream is damaged, is
    UTF-16 or has a line that is too long.
    """

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.name = name  # of the file, in errors
        self.offset = 0  # byte offset after the last line
        self.lookahead = 0  # how many bytes before `offset` belong to the record that comes next
        self.stop: int | None = None  # byte offset to stop at
        self.line_number = 0  # of the last line; the first line is 1
        self.record: list[str] = []  # lines read since the caller last cleared this list
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        return self

    def peek_first(self) -> str:
        """Return the file's first line, and rewind so that it is read again."""
        line = next(self, "")
        self._stream.seek(0)
        self.offset = self.line_number = 0
        self.record.clear()
        return line

    def __next__(self) -> str:
        if self.stop is not None and self.offset >= self.stop:
            raise StopIteration
        try:
            data = self._stream.readline(MAX_LINE_BYTES)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(
                f"{self.name}: is damaged or truncated: {error}; download it again"
            ) from None
        if not data:
            raise StopIteration
        self.offset += len(data)
        self.line_number += 1
        if self.offset == len(data):
            data = _strip_byte_order_mark(data, self.name)
        if len(data) == MAX_LINE_BYTES:
            raise InputError(
                f"{self.name}, line {self.line_number}: is longer than {MAX_LINE_BYTES} bytes"
            )
        line = data.decode("utf-8", "surrogateescape")
        self.record.append(line)
        return line


def _strip_byte_order_mark(first_line: bytes, name: str) -> bytes:
    """Remove a UTF-8 byte order mark. Raises InputError for that of UTF-16."""
    if first_line.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}: is UTF-16, which is not supported; save it as UTF-8")
    return first_line.removeprefix(b"\xef\xbb\xbf")


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


def csv_header(lines: LineReader, delimiter: str) -> list[str]:
    """Return the first record of a CSV file. Raises InputError if there is none."""
    for fields in _csv_rows(lines, delimiter):
        return fields
    raise InputError(f"{lines.name}: has no header; its first line must name the columns")


def csv_records(
    lines: LineReader, delimiter: str, header: Sequence[str], columns: Sequence[str]
) -> Iterator[dict[str, Any] | None]:
    """Yield a dict from column to field for each CSV record; None if it has more or fewer fields
    than the header."""
    indices = [(column, header.index(column)) for column in columns]
    for fields in _csv_rows(lines, delimiter):
        if len(fields) == len(header):
            yield {column: fields[index] for column, index in indices}
        else:
            yield None


def plain_records(lines: LineReader) -> Iterator[dict[str, Any]]:
    """Yield each line that is not blank, as the column `TEXT_COLUMN`."""
    for line in lines:
        lines.record.clear()
        if not line.isspace():
            yield {TEXT_COLUMN: line.rstrip("\r\n")}


def json_records(lines: LineReader, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield a dict from column to value for each line that is not blank. Missing keys become None.

    Raises InputError if a column is in none of the first records. This is not checked if the lines
    are read only up to `lines.stop`.
    """
    records = (({c: values.get(c) for c in columns}, values) for values in _json_objects(lines))
    if lines.stop is None:
        return require_columns(records, columns, lines.name)
    return (record for record, _ in records)


def require_columns(
    records: Iterable[tuple[dict[str, Any], Iterable[str]]], columns: Sequence[str], name: str
) -> Iterator[dict[str, Any]]:
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


def parse_json_object(text: str, where: str) -> dict[str, Any]:
    """Parse a JSON object. Raises InputError, which begins with `where`, if it is not one."""
    try:
        values = JSON_DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON: {error}") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"{where}: is a JSON {kind}; needs an object, whose keys are columns")
    return values


def _json_objects(lines: LineReader) -> Iterator[dict[str, Any]]:
    """Yield the JSON object of each line that is not blank."""
    for line in lines:
        lines.record.clear()
        if not line.isspace():
            yield parse_json_object(line, f"{lines.name}, line {lines.line_number}")


def _csv_rows(lines: LineReader, delimiter: str) -> Iterator[list[str]]:
    """Yield the fields of each record that is not blank. Raises InputError for unmatched quotes."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.record.clear()
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(_csv_error_message(lines, delimiter, str(error))) from None
        if fields:
            yield fields


def _csv_error_message(lines: LineReader, delimiter: str, error: str) -> str:
    first_line = lines.line_number - len(lines.record) + 1
    line = first_line + _last_open_quote(lines.record, delimiter)
    if "new-line" in error:
        return (
            f"{lines.name}, line {lines.line_number}: has a carriage return outside quotes; "
            "save the file with LF or CRLF line endings"
        )
    if "expected after" in error:
        return (
            f"{lines.name}, line {line}: the quote that opens here closes on line "
            f"{lines.line_number} in the middle of a field; double each quote inside a quoted field"
        )
    return (
        f"{lines.name}, line {line}: a quote opens here and never closes; "
        "close it, or double each quote inside a quoted field"
    )


def _last_open_quote(record: Sequence[str], delimiter: str) -> int:
    """Return the index of the record's line that has the last quote that opens a field."""
    opening_line, state = 0, "start"
    for number, line in enumerate(record):
        for character in line:
            if state == "quoted":
                state = "closed" if character == '"' else "quoted"
            elif character == '"' and state == "start":
                opening_line, state = number, "quoted"
            elif character == '"' and state == "closed":  # a doubled quote
                state = "quoted"
            else:
                state = "start" if character == delimiter else "plain"
    return opening_line
