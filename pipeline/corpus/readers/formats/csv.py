"""CSV and other formats of delimited fields."""

import csv
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import ClassVar, NamedTuple

from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.corpus.row import Unreadable
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason
from pipeline.errors import InputError

MAX_FIELD_CHARACTERS = 1 << 26  # the csv module takes four bytes for each
LONG_RECORD_LINES = 20
"""A record with more lines is not read if most of its lines look like separate records."""
SHARE_OF_RECORDS = 0.8
BLANK_AND_QUOTE = ' "'
UNDECODED = re.compile("[\udc80-\udcff]")
"""A byte that is not text in the encoding of the file."""
OTHER_DELIMITERS = {";": "';'", "\t": "'\\t'", "|": "'|'", ",": "','"}

Fields = list[str] | Unreadable


class Dialect(NamedTuple):
    """How the fields of a record are separated."""

    delimiter: str
    quoting: bool
    """Whether fields may be quoted, and then contain delimiters and line breaks."""

    @classmethod
    def of(cls, settings: CorpusSettings, delimiter: str, *, quoting: bool) -> "Dialect":
        """Return the dialect that the settings choose, or the defaults of a format."""
        chosen = settings.quoting
        return cls(settings.delimiter or delimiter, quoting if chosen is None else chosen)


class Csv(TextFormat):
    """Comma-separated fields with a header, or with the column names in `corpus.columns`.

    A quoted field may extend over several lines. A record with unmatched quotes is skipped up to
    the end of its first line only, so that the rows after it are not lost.
    """

    suffixes: ClassVar[tuple[str, ...]] = (".csv",)
    delimiter: ClassVar[str] = ","
    quoting: ClassVar[bool] = True

    def header(self, lines: LineReader) -> Sequence[str]:
        self._dialect = Dialect.of(self.settings, self.delimiter, quoting=self.quoting)
        if names := self.settings.columns:
            self.note = " (from corpus.columns, which must list all columns in order)"
            self._header = list(names)
            if self.settings.quoting is None and not self._dialect.quoting:
                _refuse_quotes(lines, self._dialect)
            return self._header
        self._header = csv_header(lines, self._dialect)
        self.note = _header_note(self._header, self._dialect)
        return self._header

    def records(self, lines: LineReader) -> Iterator[Record | Unreadable]:
        return csv_records(lines, self._dialect, self._header, self.columns)


def _refuse_quotes(lines: LineReader, dialect: Dialect) -> None:
    """Raise InputError if all fields of the first line are in quotes, which would become text."""
    first = list(islice(lines, 1))
    lines.unread(first)
    fields = "".join(first).rstrip("\r\n").split(dialect.delimiter)
    if all(len(field) > 1 and field[0] == field[-1] == '"' for field in fields):
        raise InputError(
            f"{lines.name}, line 1: all fields are in quotes, which are ordinary characters in TSV "
            "files by default; set corpus.quoting=true, or corpus.quoting=false to keep the quotes"
        )


def csv_header(lines: LineReader, dialect: Dialect) -> list[str]:
    """Return the first record of a file. Raises InputError if there is none."""
    for fields in _rows(lines, dialect, 0):
        if isinstance(fields, Unreadable):
            problem = SKIP_DESCRIPTIONS[fields.reason]
            raise InputError(
                f"{lines.name}, line {lines.record_line}: the header has {problem}; correct this "
                "line, which has the column names"
            )
        return [field.strip() for field in fields]
    raise InputError(
        f"{lines.name}: has no header; add a first line with the column names, or set "
        "corpus.columns"
    )


def csv_records(
    lines: LineReader, dialect: Dialect, header: Sequence[str], columns: Sequence[str]
) -> Iterator[Record | Unreadable]:
    """Yield a dict from column to field for each record that can be read."""
    names = list(header)
    indices = [(column, names.index(column)) for column in columns]
    count = len(names)
    for fields in _rows(lines, dialect, count):
        if isinstance(fields, Unreadable):
            yield fields
        elif len(fields) != count:
            yield Unreadable(SkipReason.WRONG_FIELDS, f"{len(fields)} instead of {count}")
        elif fields[0].strip() == names[0] and [field.strip() for field in fields] == names:
            yield Unreadable(SkipReason.HEADER)
        else:
            yield {column: fields[index] for column, index in indices}


def _rows(lines: LineReader, dialect: Dialect, count: int) -> Iterator[Fields]:
    """Yield the fields of each record that is not blank; there should be `count` of them."""
    return _quoted(lines, dialect, count) if dialect.quoting else _unquoted(lines, dialect)


def _unquoted(lines: LineReader, dialect: Dialect) -> Iterator[Fields]:
    for line in lines:
        if text := line.rstrip("\r\n"):
            yield text.split(dialect.delimiter)


def _quoted(lines: LineReader, dialect: Dialect, count: int) -> Iterator[Fields]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    rows = csv.reader(lines, delimiter=dialect.delimiter, strict=True)
    while True:
        record = lines.record = []
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield _recover(lines, record, _problem(str(error), lines, record, dialect.delimiter))
            continue
        if not fields:
            continue
        if len(record) > LONG_RECORD_LINES and _swallows_records(record, dialect, count):
            opening = _last_open_quote(record[:1], dialect.delimiter)
            yield _recover(lines, record, Unreadable(SkipReason.BAD_QUOTES, opening))
            continue
        lines.record_line = lines.line_number - len(record) + 1
        if BLANK_AND_QUOTE in record[0]:
            fields = _without_blanks(record, fields, dialect, count)
        yield fields


def _without_blanks(
    record: list[str], fields: list[str], dialect: Dialect, count: int
) -> list[str]:
    """Return the fields of a record without spaces before quoted fields, as in `a, "b, c"`.

    The csv module reads such a quote as part of a field, and a comma after it as the end of the
    field.
    """
    if not any(field[:1] == " " and field.lstrip(" ")[:1] == '"' for field in fields):
        return fields
    try:
        found = list(
            csv.reader(record, delimiter=dialect.delimiter, strict=True, skipinitialspace=True)
        )
    except csv.Error:
        return fields
    return found[0] if len(found) == 1 and len(found[0]) == (count or len(found[0])) else fields


def _recover(lines: LineReader, record: list[str], problem: Unreadable) -> Unreadable:
    """Move back to the second line of a record that cannot be read; return `problem`."""
    lines.unread(record[1:])
    lines.record_line = lines.line_number
    return problem


def _swallows_records(record: Sequence[str], dialect: Dialect, count: int) -> bool:
    """Return whether most lines of a long record look like separate records of `count` fields.

    If a quote is not closed, all lines up to the next quote become such a record.
    """
    inner = record[1:-1]
    similar = sum(line.count(dialect.delimiter) == count - 1 for line in inner)
    return count > 1 and similar >= SHARE_OF_RECORDS * len(inner)


def _problem(error: str, lines: LineReader, record: Sequence[str], delimiter: str) -> Unreadable:
    """Return the reason why the csv module cannot read a record."""
    if "new-line" in error:
        return Unreadable(SkipReason.BAD_LINE_END)
    if "field larger" in error:
        return Unreadable(SkipReason.LONG_FIELD)
    detail = ""
    if "expected after" in error:
        detail = f"closed on line {lines.line_number} inside a field"
    return Unreadable(SkipReason.BAD_QUOTES, detail or _last_open_quote(record, delimiter))


def _last_open_quote(record: Sequence[str], delimiter: str) -> str:
    """Return the field that begins at the last opening quote of a record, shortened."""
    opening, state, text = 0, "start", "".join(record[:LONG_RECORD_LINES])
    for position, character in enumerate(text):
        if state == "quoted":
            state = "closed" if character == '"' else "quoted"
        elif character == '"' and state == "start":
            opening, state = position, "quoted"
        elif character == '"' and state == "closed":  # a doubled quote
            state = "quoted"
        else:
            state = "start" if character in (delimiter, "\n") else "plain"
    return repr(text[opening : opening + 30].partition("\n")[0])


def _header_note(header: Sequence[str], dialect: Dialect) -> str:
    """Return the end of the error for a missing column, with the likely reason."""
    if any(map(UNDECODED.search, header)):
        return " (its header is not in corpus.encoding; set it, such as corpus.encoding=cp1252)"
    if len(header) == 1:
        for delimiter, name in OTHER_DELIMITERS.items():
            if delimiter != dialect.delimiter and delimiter in header[0]:
                return f" (if its fields have another separator, set corpus.delimiter={name})"
    if not dialect.quoting and any(name.startswith('"') for name in header):
        return " (if its fields are quoted, set corpus.quoting=true)"
    return " (its first line is read as the header; if it has none, set corpus.columns)"
