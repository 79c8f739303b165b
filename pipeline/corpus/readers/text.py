"""Records of text files: lines that know their place, CSV with its quotes, JSON by the line."""

import csv
import difflib
import json
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from pipeline.errors import InputError

LINE_LIMIT = 1 << 28  # bytes
FIELD_LIMIT = 1 << 26  # characters; the csv module holds four bytes for each
COLUMNS_APPEAR_WITHIN = 1000  # records that may leave out a column where they have no value
LINE = "text"  # the column of a plain text
DECODER = json.JSONDecoder(strict=False)  # a control character spoils one row, no more


class Lines:
    """The lines of a byte stream, decoded; bytes that are not UTF-8 become lone surrogates."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self.name = name
        self.offset = 0  # byte after the last line
        self.ahead = 0  # bytes before it that are of the record that follows
        self.stop: int | None = None  # byte to end at
        self.number = 0  # of the last line; 1 is the first
        self.record: list[str] = []  # lines since it was last cleared
        self._stream = stream

    def __iter__(self) -> Iterator[str]:
        return self

    def first(self) -> str:
        """The first line, to begin with which is to be read again."""
        line = next(self, "")
        self._stream.seek(0)
        self.offset = self.number = 0
        self.record.clear()
        return line

    def __next__(self) -> str:
        if self.stop is not None and self.offset >= self.stop:
            raise StopIteration
        try:
            data = self._stream.readline(LINE_LIMIT)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self.name}: is not whole: {error}; fetch it anew") from None
        if not data:
            raise StopIteration
        self.offset += len(data)
        self.number += 1
        if self.offset == len(data):
            data = _without_mark(data, self.name)
        if len(data) == LINE_LIMIT:
            raise InputError(f"{self.name}, line {self.number}: is longer than {LINE_LIMIT} bytes")
        line = data.decode("utf-8", "surrogateescape")
        self.record.append(line)
        return line


def _without_mark(data: bytes, name: str) -> bytes:
    """The first line without its byte order mark."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}: is UTF-16, which is not read; save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf")


def check_columns(columns: Sequence[str], found: Sequence[str], name: str, why: str = "") -> None:
    """Raises InputError unless each of `columns` is found, once; `why` says how it was found."""
    for column in columns:
        if found.count(column) > 1:
            raise InputError(f"{name}: names {found.count(column)} columns {column!r}; rename them")
        if column not in found:
            near = difflib.get_close_matches(column, found, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise InputError(
                f"{name}: has no column {column!r}{hint}; it has {', '.join(map(repr, found))}{why}"
            )


def csv_header(lines: Lines, delimiter: str) -> list[str]:
    """The first record."""
    for fields in _csv(lines, delimiter):
        return fields
    raise InputError(f"{lines.name}: holds no header; its first line must name the columns")


def csv_records(
    lines: Lines, delimiter: str, header: Sequence[str], columns: Sequence[str]
) -> Iterator[dict[str, Any] | None]:
    """Column -> field of each record; None for one with more or fewer fields than the header."""
    places = [(column, header.index(column)) for column in columns]
    for fields in _csv(lines, delimiter):
        if len(fields) == len(header):
            yield {column: fields[place] for column, place in places}
        else:
            yield None


def plain_records(lines: Lines) -> Iterator[dict[str, Any]]:
    """Each line that is not blank, as the column `LINE`."""
    for line in lines:
        lines.record.clear()
        if not line.isspace():
            yield {LINE: line.rstrip("\r\n")}


def json_records(lines: Lines, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Column -> value of each line that is not blank; a missing key has the value None.

    Raises InputError if a column is in none of the first rows. Between two marks none is missed.
    """
    records = (({c: values.get(c) for c in columns}, values) for values in _json(lines))
    return having(records, columns, lines.name) if lines.stop is None else (r for r, _ in records)


def having(
    records: Iterable[tuple[dict[str, Any], Iterable[str]]], columns: Sequence[str], name: str
) -> Iterator[dict[str, Any]]:
    """Records that each come with the names of the columns they hold; these are taken off.

    Raises InputError if one of `columns` is in none of the first records.
    """
    found: dict[str, None] = {}
    rows = 0
    for record, names in records:
        rows += 1
        if rows <= COLUMNS_APPEAR_WITHIN:
            found |= dict.fromkeys(names)
            if rows == COLUMNS_APPEAR_WITHIN:
                check_columns(columns, list(found), name)
        yield record
    if 0 < rows < COLUMNS_APPEAR_WITHIN:
        check_columns(columns, list(found), name)


def json_object(text: str, place: str) -> dict[str, Any]:
    """The JSON object that stands at `place`. Raises InputError if it is none."""
    try:
        values = DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: is not JSON: {error}") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"{place}: is a JSON {kind}; needs an object, whose keys are columns")
    return values


def _json(lines: Lines) -> Iterator[dict[str, Any]]:
    """The object of each line that is not blank."""
    for line in lines:
        lines.record.clear()
        if not line.isspace():
            yield json_object(line, f"{lines.name}, line {lines.number}")


def _csv(lines: Lines, delimiter: str) -> Iterator[list[str]]:
    """The records that are not blank. Raises InputError where the quotes do not match."""
    csv.field_size_limit(FIELD_LIMIT)
    records = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        lines.record.clear()
        try:
            fields = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(_complaint(lines, delimiter, str(error))) from None
        if fields:
            yield fields


def _complaint(lines: Lines, delimiter: str, error: str) -> str:
    line = lines.number - len(lines.record) + 1 + _last_open_quote(lines.record, delimiter)
    if "new-line" in error:
        return (
            f"{lines.name}, line {lines.number}: a carriage return stands outside quotes; "
            "save the file with line ends LF or CRLF"
        )
    if "expected after" in error:
        return (
            f"{lines.name}, line {line}: the quote that opens here closes on line {lines.number} "
            "in the middle of a field; write a quote inside a quoted field twice"
        )
    return (
        f"{lines.name}, line {line}: a quote opens here and never closes; "
        "close it, or write a quote inside a quoted field twice"
    )


def _last_open_quote(record: Sequence[str], delimiter: str) -> int:
    """Which line of the record, from 0, holds the last quote that opens a field."""
    opened, state = 0, "start"
    for number, line in enumerate(record):
        for character in line:
            if state == "quoted":
                state = "closed" if character == '"' else "quoted"
            elif character == '"' and state == "start":
                opened, state = number, "quoted"
            elif character == '"' and state == "closed":  # a quote written twice
                state = "quoted"
            else:
                state = "start" if character == delimiter else "plain"
    return opened
