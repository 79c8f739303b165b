"""Plain text."""

from collections.abc import Iterator

from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat


class Text(TextFormat):
    """One text per line; blank lines are left out."""

    suffixes = (".txt", ".text")
    names = ("text",)
    note = (
        " (a plain text file has no other column; if it has columns of words, set "
        "corpus.format=conll, or of other fields, corpus.format=tsv or csv)"
    )

    def records(self, lines: LineReader) -> Iterator[Record]:
        for line in lines:
            if not line.isspace():
                yield {"text": line.rstrip("\r\n")}
