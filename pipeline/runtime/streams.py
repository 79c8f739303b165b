"""Standard streams of a command: no missing reader, terminal or encoding ends a run.

Imports no torch.
"""

import codecs
import errno
import io
import os
import sys
from typing import Any, TextIO, cast

GONE = {errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF}
"""Errors of a stream whose reader or terminal has ended."""


def protect_streams() -> None:
    """Let the standard streams of this process survive what surrounds it.

    - Log lines that cannot be written to stderr are dropped, as by `headrace train 2>&1 | head -1`.
    - stdout writes a character that its encoding lacks as an escape, as stderr does anyway.
    - A stream that the parent process has closed is /dev/null: a file would get its number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # has the lowest free number
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if not isinstance(sys.stderr, ForgivingStream):
        sys.stderr = cast(TextIO, ForgivingStream(sys.stderr))


def has_all_characters(stream: TextIO) -> bool:
    """Return whether the encoding of a stream has all characters, as UTF-8."""
    encoding = getattr(stream, "encoding", None)
    return encoding is None or codecs.lookup(encoding).name.startswith("utf")


class ForgivingStream:
    """A text stream that drops what cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError as error:
            self._drop(error)
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._drop(error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _drop(self, error: OSError) -> None:
        """Write to /dev/null from now on if there is no reader, also from C++."""
        if error.errno in GONE:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
