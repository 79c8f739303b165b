"""JSON lines."""

import json
from collections.abc import Iterator

from pipeline.corpus.readers.base import Record
from pipeline.corpus.readers.lines import LineReader
from pipeline.corpus.readers.text_format import TextFormat
from pipeline.errors import InputError

JSON_DECODER = json.JSONDecoder(strict=False)  # accepts control characters; only their row is bad


class JsonLines(TextFormat):
    """One JSON object per line, whose keys are the columns; blank lines are left out."""

    suffixes = (".jsonl",)

    def records(self, lines: LineReader) -> Iterator[Record | None]:
        for line in lines:
            if not line.isspace():
                yield parse_json_object(line, f"{lines.name}, line {lines.line_number}")


def parse_json_object(text: str, where: str) -> Record:
    """Parse a JSON object. Raises InputError, which begins with `where`, if it is not one."""
    try:
        values = JSON_DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is not JSON: {error}") from None
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"{where}: is a JSON {kind}; needs an object, whose keys are columns")
    return values
