"""Plain text."""

from collections.abc import Iterator, Sequence
from itertools import islice

from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.formats.jsonl import parse_json_object
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.errors import InputError


class Text(TextFormat):
    """One text per line; blank lines are left out.

    A file that begins with a JSON object is refused unless `corpus.format` is `text`, because its
    lines are probably not meant as text.
    """

    suffixes = (".txt", ".text")
    names = ("text",)
    note = (
        " (a plain text file has no other column; if it has columns of words, set "
        "corpus.format=conll; if it has other fields, set corpus.format=tsv or csv)"
    )

    def header(self, lines: LineReader) -> Sequence[str]:
        first = list(islice(lines, 1))
        lines.unread(first)
        if not self.settings.format and isinstance(parse_json_object("".join(first)), dict):
            raise InputError(
                f"{lines.name}, line 1: is a JSON object; set corpus.format=jsonl to read its keys "
                "as columns, or corpus.format=text to read the line as it is"
            )
        return super().header(lines)

    def records(self, lines: LineReader) -> Iterator[Record]:
        for line in lines:
            if not line.isspace():
                yield {"text": line.rstrip("\r\n")}
