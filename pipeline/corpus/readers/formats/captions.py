"""Caption files: each line names an image and has one caption. Consecutive lines that name the same
image form one row: the image with all of these captions.

A file has either Flickr8k's token format (Hodosh et al. 2013), which is NAME#NUMBER, a tab and the
caption, or is CSV with a header.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from pipeline.corpus.readers.base import Record, needs_field
from pipeline.corpus.readers.formats.csv import Dialect, csv_header, csv_records
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.corpus.row import Unreadable
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError
from pipeline.settings import Conflict, Sections

TOKEN_FILE_COLUMNS = IMAGE, CAPTION = ("image", "caption")
"""Columns of a token file, which has no header."""
MAX_CAPTIONS = 10_000
"""Captions of one image."""


class Captions(TextFormat):
    """The rows of a caption file.

    The columns to read are the image's, the captions' and any others, which have the values of the
    image's first line.
    """

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        yield from needs_field(config, "targets")

    def header(self, lines: LineReader) -> Sequence[str]:
        self._csv_header: list[str] = []
        if "\t" in lines.peek_first():
            self.note = " (a token file has no others)"
            return TOKEN_FILE_COLUMNS
        self.note = " (its first line has no tab, so it is read as a CSV header)"
        self._dialect = Dialect.of(self.settings, ",", quoting=True)
        self._csv_header = csv_header(lines, self._dialect)
        return self._csv_header

    def records(self, lines: LineReader) -> Iterator[Record | Unreadable]:
        """Yield a dict from column to value for each image, whose captions are a list.

        The first line of the next image ends an image, so it has already been read;
        `lines.lookahead` is its size in bytes.
        """
        image, *others = self.columns
        caption = others[0] if others else ""  # prediction reads no captions
        row: dict[str, Any] = {}
        record_start, first_line = lines.offset, 0
        for record in self._line_records(lines):
            if row and (isinstance(record, Unreadable) or record[image] != row[image]):
                lines.lookahead = lines.offset - record_start
                next_line, lines.record_line = lines.record_line, first_line
                yield row
                lines.lookahead, lines.record_line, row = 0, next_line, {}
            record_start = lines.offset
            if isinstance(record, Unreadable):
                yield record
                continue
            if not row:
                row = {**record, caption: []} if caption else record
                first_line = lines.record_line or lines.line_number
            if not caption:
                continue
            row[caption].append(record[caption])
            if len(row[caption]) > MAX_CAPTIONS:
                raise InputError(
                    f"{lines.name}, line {lines.line_number}: more than {MAX_CAPTIONS:,} "
                    f"consecutive lines name the image {row[image]!r}; fix the file, or set "
                    "corpus.image to another column"
                )
        if row:
            lines.record_line = first_line
            yield row

    def _line_records(self, lines: LineReader) -> Iterable[Record | Unreadable]:
        """Return a dict from column to value for each line that can be read."""
        if self._csv_header:
            return csv_records(lines, self._dialect, self._csv_header, self.columns)
        return _token_records(lines)


def _token_records(lines: LineReader) -> Iterator[Record | Unreadable]:
    """Yield the image and caption of each line that is not blank."""
    for line in lines:
        if line.isspace():
            continue
        name, tab, caption = line.rstrip("\r\n").partition("\t")
        stem, hash_sign, number = name.rpartition("#")
        image = stem if hash_sign and number.isdigit() else name
        yield {IMAGE: image, CAPTION: caption} if tab else Unreadable(SkipReason.WRONG_FIELDS)
