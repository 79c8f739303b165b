"""JSON: one object per line, an array of objects, or objects over several lines."""

import json
from collections.abc import Iterator

from pipeline.corpus.readers.base import COLUMN_CHECK_RECORDS, Layout, Record
from pipeline.corpus.readers.json_layout import json_lines, spans_lines
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.corpus.row import Unreadable
from pipeline.corpus.skip_reason import SkipReason

JSON_DECODER = json.JSONDecoder(strict=False)  # accepts control characters; only their row is bad


class JsonLines(TextFormat):
    """JSON objects, whose keys are the columns; `a.b` is the key b of the object a.

    A file has one object per line; blank lines are ignored. An array of objects, and objects that
    extend over several lines, are first converted to this layout.
    """

    suffixes = (".jsonl", ".ndjson", ".json", ".jsonlines")

    @classmethod
    def recognizes(cls, name: str, head: bytes = b"") -> bool:
        return super().recognizes(name) or head.lstrip()[:2] in (b'{"', b"[{")

    @classmethod
    def layout(cls, head: bytes) -> Layout | None:
        return json_lines if spans_lines(head) else None

    def skip(self, rows: int) -> int:
        """Skip rows unless they are among the first, in which each column must appear."""
        if self._row < COLUMN_CHECK_RECORDS:
            return 0
        skipped = 0
        while skipped < rows and (line := next(self._lines, None)) is not None:
            skipped += not line.isspace()
        self._row += skipped
        self._update()
        return skipped

    def records(self, lines: LineReader) -> Iterator[Record | Unreadable]:
        for line in lines:
            if not line.isspace():
                yield parse_json_object(line)


def parse_json_object(text: str) -> Record | Unreadable:
    """Parse a JSON object; return an Unreadable if the text is not one."""
    try:
        values = JSON_DECODER.decode(text)
    except json.JSONDecodeError as error:
        return Unreadable(SkipReason.NOT_JSON, f"{error.msg} at character {error.pos + 1}")
    except ValueError:  # from int
        return Unreadable(SkipReason.NOT_JSON, "a number with too many digits")
    except RecursionError:
        return Unreadable(SkipReason.NOT_JSON, "lists or objects that are nested too deeply")
    if not isinstance(values, dict):
        return Unreadable(SkipReason.NOT_JSON, f"a {type(values).__name__}")
    return values
