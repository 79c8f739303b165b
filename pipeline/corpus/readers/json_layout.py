"""Converts JSON documents to one object per line: arrays, and objects over several lines."""

import json
import re
from collections.abc import Iterator
from typing import IO

from pipeline.corpus.readers.content import CHUNK_BYTES, read_errors
from pipeline.errors import InputError

MAX_VALUE_CHARACTERS = 1 << 28
MAX_DAMAGED_CHARACTERS = 1 << 24
"""Number of characters of damaged text after which the search for the next object ends."""
SEPARATORS = re.compile(r"[\s,\ufeff]*")
"""Whitespace, commas, and the byte order marks of files that were concatenated."""
NEXT_OBJECT = re.compile(r"[\n}][\s,\ufeff]*(?=\{)")
UNCLOSED = b"the array is not closed\n"
"""A line that is not JSON, so that the end of a truncated file counts as an invalid row."""
LONGEST_TOKEN = 12
"""Characters of the longest sequence that is only valid as a whole: an escaped surrogate pair."""
DECODER = json.JSONDecoder(strict=False)


def spans_lines(head: bytes) -> bool:
    """Return whether a file begins with an array, or with an object that does not end on its first
    line; such a file is not JSON Lines.

    `head` has its first bytes. A damaged first line does not count as such an object.
    """
    text = head.decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    if text.startswith("["):
        return True
    first, line_break, _ = text.partition("\n")
    if not text.startswith("{") or not line_break:
        return False
    try:
        DECODER.decode(first)
    except (ValueError, RecursionError):
        pass
    else:
        return False
    if first.rstrip()[-1:] in ("{", "[", ","):
        return True
    try:
        _, end = DECODER.raw_decode(text)
    except (ValueError, RecursionError):
        return False
    return end > len(first)


def json_lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    """Yield the objects of a document, one per line.

    The document is a sequence of objects and arrays of objects, separated by whitespace or commas.
    Text that cannot be parsed, up to the next object, becomes one line. Raises
    InputError if a value is too large or the stream cannot be read.
    """
    document, is_array = _Document(stream, name), False
    while True:
        document.skip_separators()
        if document.take("]" if is_array else "["):
            is_array = not is_array
            continue
        if document.at_end():
            break
        yield document.line()
    if is_array:
        yield UNCLOSED


class _Document:
    """The text of a stream; only the part to parse next is in memory."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream, self._name = stream, name
        self._text, self._position, self._rest, self._ended = "", 0, b"", False

    def skip_separators(self) -> None:
        while True:
            match = SEPARATORS.match(self._text, self._position)
            assert match is not None
            self._position = match.end()
            if self._position < len(self._text) or not self._read():
                return

    def take(self, character: str) -> bool:
        """Consume the next character if it is this one."""
        found = self._text.startswith(character, self._position)
        self._position += found
        return found

    def at_end(self) -> bool:
        return self._position == len(self._text) and self._ended

    def line(self) -> bytes:
        """Consume the next value, or text that cannot be parsed, and return it as a line."""
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if not (self._is_incomplete(error) and self._read()):
                    return self._damaged()
                continue
            except (ValueError, RecursionError):  # a number is too long, or nesting too deep
                return self._damaged()
            if end == len(self._text) and self._read():
                continue  # a number may continue
            try:
                line = json.dumps(value).encode() + b"\n"
            except (ValueError, RecursionError):
                return self._damaged()
            self._position = end
            return line

    def _is_incomplete(self, error: json.JSONDecodeError) -> bool:
        """Return whether a value may be valid if more text is read."""
        near_end = error.pos >= len(self._text) - LONGEST_TOKEN
        return near_end or error.msg.startswith("Unterminated string")

    def _damaged(self) -> bytes:
        while not (match := NEXT_OBJECT.search(self._text, self._position + 1)):
            if len(self._text) - self._position > MAX_DAMAGED_CHARACTERS or not self._read():
                break
        end = match.end() if match else len(self._text)
        damaged = " ".join(self._text[self._position : end].split())
        self._position = end
        return damaged.encode("utf-8", "surrogateescape") + b"\n"

    def _read(self) -> bool:
        """Append at least a chunk, doubling the text in memory; return whether there was any."""
        size = max(CHUNK_BYTES, len(self._text) - self._position)
        if size > MAX_VALUE_CHARACTERS:
            raise InputError(
                f"{self._name}: has a JSON value of more than {MAX_VALUE_CHARACTERS:,} characters; "
                "use an array of objects, or one object per line"
            )
        with read_errors(self._name):
            data = self._stream.read(size)
        self._ended = not data
        data = self._rest + data
        keep = 0 if self._ended else _incomplete(data)
        self._rest = data[len(data) - keep :] if keep else b""
        text = data[: len(data) - keep].decode("utf-8", "surrogateescape")
        if self._position == 0 and not self._text:
            text = text.removeprefix("\ufeff")
        self._text, self._position = self._text[self._position :] + text, 0
        return bool(text) or not self._ended


def _incomplete(data: bytes) -> int:
    """Return the number of bytes of an incomplete UTF-8 character at the end."""
    for back in range(1, min(3, len(data)) + 1):
        byte = data[-back]
        if byte & 0xC0 == 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return back if length > back else 0
        if byte < 0x80:
            return 0
    return 0
