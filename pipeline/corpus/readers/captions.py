"""Caption files: lines that each name an image and say one caption of it. A row is an image with
the captions of all neighboring lines that name it.

The lines are Flickr8k's (Hodosh et al. 2013), NAME#NUMBER, a tab and the caption, or CSV with a
header.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.corpus.readers.text import Lines, check_columns, csv_header, csv_records
from pipeline.errors import InputError

COLUMNS = IMAGE, CAPTION = ("image", "caption")
"""Those of a token file, which has no header."""
MOST = 10_000  # captions of one image

Record = dict[str, Any]


class Captions:
    """The rows of a caption file."""

    def __init__(self, lines: Lines, columns: Sequence[str]) -> None:
        """Raises InputError unless the file has the `columns`: of the image, of its captions, and
        any others, whose values are those of the image's first line."""
        self._lines, self._columns = lines, columns
        self._header: list[str] = []
        if "\t" in lines.first():
            check_columns(columns, COLUMNS, lines.name, ": a token file has no others")
        else:
            self._header = csv_header(lines, ",")
            why = " (no tab stands in its first line, so that is the header of CSV)"
            check_columns(columns, self._header, lines.name, why)

    def records(self) -> Iterator[Record | None]:
        """Column -> value of each image, None for a line with more or fewer fields. `lines.ahead`
        counts the bytes that were read of the image that follows."""
        lines = self._lines
        image, caption, *_ = self._columns
        row: dict[str, Any] = {}
        before = lines.offset
        for record in self._lined():
            if row and (record is None or record[image] != row[image]):
                lines.ahead = lines.offset - before
                yield row
                lines.ahead, row = 0, {}
            before = lines.offset
            if record is None:
                yield None
                continue
            row = row or {**record, caption: []}
            row[caption].append(record[caption])
            if len(row[caption]) > MOST:
                raise InputError(
                    f"{lines.name}, line {lines.number}: more than {MOST:,} lines running name the "
                    f"image {row[image]!r}; mend the file, or name another column as corpus.image"
                )
        if row:
            yield row

    def _lined(self) -> Iterable[Record | None]:
        """Column -> value of each line."""
        if self._header:
            return csv_records(self._lines, ",", self._header, self._columns)
        return _token_records(self._lines)


def _token_records(lines: Lines) -> Iterator[Record | None]:
    """An image and a caption of each line that is not blank; None of one without a tab."""
    for line in lines:
        lines.record.clear()
        if line.isspace():
            continue
        name, tab, caption = line.rstrip("\r\n").partition("\t")
        stem, mark, number = name.rpartition("#")
        image = stem if mark and number.isdigit() else name
        yield {IMAGE: image, CAPTION: caption} if tab else None
