"""Conversion of the tags of a file that is read once, such as in evaluation."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pipeline.corpus.fields.base import FieldKind
from pipeline.corpus.fields.example import Example
from pipeline.corpus.fields.tag_schemes import (
    Flaw,
    TagCounts,
    TagReading,
    decide,
    scheme_of_names,
)
from pipeline.corpus.row import Row
from pipeline.corpus.skip_reason import SkipReason

MAX_ROWS, MAX_TAGS = 10_000, 1_000_000
"""Numbers of rows and tags at the start of a file from which its tag scheme is determined."""

logger = logging.getLogger(__name__)

Checked = tuple[Row, Example | SkipReason]
"""A row, and its example or the reason to skip it."""


class TagConverter:
    """Converts tags to the scheme of known tag names. Plain tag names stay as they are."""

    def __init__(self, kinds: Sequence[FieldKind], names: Mapping[str, Sequence[str]]) -> None:
        """`names` holds the known labels or tags of each field."""
        self._names = {
            number: names.get(kind.field.name, ())
            for number, kind in enumerate(kinds)
            if kind.has_scheme and scheme_of_names(names.get(kind.field.name, ()))
        }
        self._logged: set[str] = set()

    def convert(self, rows: Iterable[Checked], file: str) -> Iterator[Checked]:
        """Yield the rows of a file with converted tags; rows whose tags are not valid are skipped.

        The first rows of the file are read ahead to determine its scheme.
        """
        if not self._names:
            yield from rows
            return
        iterator, head = iter(rows), list[Checked]()
        counts = {number: TagCounts() for number in self._names}
        tags = 0
        for row, example in iterator:
            head.append((row, example))
            if isinstance(example, Example):
                for number, field_counts in counts.items():
                    field_counts.add(example.values[number], row.place(file))
                    tags += len(example.values[number])
            if len(head) == MAX_ROWS or tags >= MAX_TAGS:
                break
        readings = {n: decide([c], self._names[n])[0] for n, c in counts.items()}
        self._log(file, readings.values())
        for row, example in head:
            yield row, convert(example, readings)
        for row, example in iterator:
            yield row, convert(example, readings)

    def _log(self, file: str, readings: Iterable[TagReading]) -> None:
        for reading in readings:
            if reading.scheme != reading.target and file not in self._logged:
                logger.info("%s: tag scheme: %s", file, reading.describe())
                self._logged.add(file)


def convert(
    example: Example | SkipReason, readings: Mapping[int, TagReading]
) -> Example | SkipReason:
    """Return an example with converted tags, or the reason to skip it.

    `readings` has the reading of each tag field, by the field's position.
    """
    if isinstance(example, SkipReason):
        return example
    values = list(example.values)
    for number, reading in readings.items():
        tags = reading.read(values[number])
        if isinstance(tags, Flaw):
            return tags.reason
        values[number] = tags
    return example._replace(values=tuple(values))
