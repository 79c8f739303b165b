"""Lines of plain text as inputs of `predict`."""

from collections.abc import Iterator

from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat

LINE = "line"
"""The column of `Lines`."""


class Lines(TextFormat):
    """One row per line, including blank lines, without the line break."""

    names = (LINE,)

    def records(self, lines: LineReader) -> Iterator[Record]:
        for line in lines:
            yield {LINE: line.rstrip("\r\n")}


FORMAT = f"{Lines.__module__}:{Lines.__name__}"
"""The value of `corpus.format` that chooses this reader."""
