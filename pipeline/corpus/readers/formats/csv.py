"""CSV."""

import csv
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.errors import InputError

MAX_FIELD_CHARACTERS = 1 << 26  # the csv module takes four bytes for each


class Csv(TextFormat):
    """Comma-separated fields with a header; a row may extend over several lines."""

    suffixes = (".csv",)
    delimiter: ClassVar[str] = ","

    def header(self, lines: LineReader) -> Sequence[str]:
        return csv_header(lines, self.delimiter)

    def records(self, lines: LineReader) -> Iterator[Record | None]:
        return csv_records(lines, self.delimiter, self.available, self.columns)


def csv_header(lines: LineReader, delimiter: str) -> list[str]:
    """Return the first record of a CSV file. Raises InputError if there is none."""
    for fields in _rows(lines, delimiter):
        return fields
    raise InputError(f"{lines.name}: has no header; its first line must name the columns")


def csv_records(
    lines: LineReader, delimiter: str, header: Sequence[str], columns: Sequence[str]
) -> Iterator[Record | None]:
    """Yield a dict from column to field for each CSV record; None if it has more or fewer fields
    than the header."""
    indices = [(column, header.index(column)) for column in columns]
    for fields in _rows(lines, delimiter):
        if len(fields) == len(header):
            yield {column: fields[index] for column, index in indices}
        else:
            yield None


def _rows(lines: LineReader, delimiter: str) -> Iterator[list[str]]:
    """Yield the fields of each record that is not blank. Raises InputError for unmatched quotes."""
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    rows = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        record = lines.record = []
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(_error_message(lines, record, delimiter, str(error))) from None
        if fields:
            yield fields


def _error_message(lines: LineReader, record: Sequence[str], delimiter: str, error: str) -> str:
    first_line = lines.line_number - len(record) + 1
    line = first_line + _last_open_quote(record, delimiter)
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
