"""Detects the delimiter and quoting of a table, and whether its first line is a header."""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.inspection.column import Column, Kind, is_date, is_number

DELIMITERS = (",", "\t", ";", "|")
MAX_RECORDS = 200
MIN_CONSISTENT = 0.8
"""Share of the records that must have the same number of fields."""
HEADER_NAME = re.compile(r"[^\W\d][\w .\-/()#%:&?]*")
MAX_NAME_WORDS = 5
MIN_TEXT_WORDS = 3.0
KNOWN_NAMES = re.compile(
    r"(text|label|labels|title|body|id|class|category|sentiment|review|sentence|content|target|"
    r"source|date|name|tag|tags|rating|stars|score|message|comment)s?", re.IGNORECASE
)  # fmt: skip


class Layout(NamedTuple):
    """Delimiter and quoting of a table, and its first records."""

    delimiter: str
    quoting: bool
    records: list[list[str]]
    """The first records, without those that do not have the most frequent number of fields."""
    share: float
    """Share of the records that have the most frequent number of fields."""

    @property
    def width(self) -> int:
        return len(self.records[0]) if self.records else 0


def find_layout(head: str, preferred: str, *, quoting: bool | None = None) -> Layout:
    """Return the layout with which most records have the same number of fields, at least two.

    The delimiter `preferred` is chosen unless another one is better.
    """
    found = [_layout(head, delimiter, quoting) for delimiter in (preferred, *DELIMITERS)]
    usable = [each for each in found if each.width > 1 and each.share >= MIN_CONSISTENT]
    return max(usable, key=lambda each: each.share, default=found[0])


def _layout(head: str, delimiter: str, quoting: bool | None) -> Layout:
    if quoting is None:
        quoting = delimiter != "\t" or _is_quoted(head.partition("\n")[0].split("\t"))
    quoted = _counted(_quoted(head, delimiter), delimiter, quoting=True)
    if quoting and quoted.share >= 1 - 0.05:
        return quoted
    plain = [line.split(delimiter) for line in head.splitlines()[:MAX_RECORDS] if line]
    unquoted = _counted(plain, delimiter, quoting=False)
    if not quoting:
        return unquoted
    return unquoted if unquoted.share >= max(0.95, 1.5 * quoted.share) else quoted


def _counted(records: Sequence[list[str]], delimiter: str, *, quoting: bool) -> Layout:
    """Return a layout with the records that have the most frequent number of fields."""
    widths = Counter(len(record) for record in records if record)
    if not widths:
        return Layout(delimiter, quoting, [], 0.0)
    width, count = widths.most_common(1)[0]
    good = [record for record in records if len(record) == width]
    return Layout(delimiter, quoting, good, count / len(records))


def _is_quoted(fields: Sequence[str]) -> bool:
    stripped = [field.strip("\r\n") for field in fields]
    return all(len(f) > 1 and f[0] == f[-1] == '"' for f in stripped)


def _quoted(head: str, delimiter: str) -> list[list[str]]:
    """Return the first records of a text with quoted fields; a malformed record is empty."""
    rows = csv.reader(io.StringIO(head, newline=""), delimiter=delimiter, strict=True)
    records: list[list[str]] = []
    while len(records) < MAX_RECORDS:
        try:
            record = next(rows)
        except StopIteration:
            break
        except csv.Error:
            if rows.line_num >= head.count("\n"):
                break  # the head ends inside a field
            records.append([])
            continue
        if record:
            records.append(record)
    return records


def has_header(records: Sequence[Sequence[str]]) -> bool:
    """Return whether the first record names the columns.

    Each column votes: for a header if its first value looks different from the others (text above
    numbers, a short text above long texts), against a header if it looks similar.
    """
    if not records:
        return True
    first, rest = records[0], records[1:]
    names = [field.strip() for field in first]
    if any(names) and all(KNOWN_NAMES.fullmatch(n) for n in names if n):
        return True
    if len(set(first)) < len(first) or not any(names):
        return False
    return sum(_vote(name, [row[n] for row in rest]) for n, name in enumerate(names)) >= 0


def _vote(name: str, values: Sequence[str]) -> float:
    """Return how much a first value looks like the name of a column of these values, from -3."""
    present = [value.strip() for value in values if value.strip()]
    if KNOWN_NAMES.fullmatch(name):
        return 2
    for test in (is_number, is_date):
        if test(name):
            return -3
        if present and sum(map(test, present)) >= 0.9 * len(present):
            return 3
    is_name = bool(HEADER_NAME.fullmatch(name)) and len(name.split()) <= MAX_NAME_WORDS
    if not is_name or name[-1:] in (".", "!"):
        return -2 if name else 0
    if name in present:
        return -3
    words = sum(len(value.split()) for value in present) / max(len(present), 1)
    return 1 if words > MIN_TEXT_WORDS * len(name.split()) else 0.5


def name_columns(records: Sequence[Sequence[str]]) -> list[str]:
    """Return names for the columns of a file without a header: `text`, `label`, ..."""
    columns = [
        Column.of(str(n), list(values)) for n, values in enumerate(zip(*records, strict=True))
    ]
    texts = [c.name for c in columns if c.kind is Kind.TEXT]
    main = max(
        (c for c in columns if c.kind is Kind.TEXT), key=lambda c: c.mean_words, default=None
    )
    labels = [c for c in columns if c.kind in (Kind.LABEL, Kind.NUMBER)]
    label = min(labels, key=lambda c: (c.kind is not Kind.LABEL, c.distinct), default=None)
    names = []
    for number, column in enumerate(columns, 1):
        if column is main:
            names.append("text")
        elif column is label:
            names.append("label")
        elif column.name in texts:
            names.append(f"text_{number}")
        else:
            names.append(f"{column.kind.value.split()[0]}_{number}")
    return names
