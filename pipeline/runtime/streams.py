"""Keeps a command running if a standard stream is closed or cannot encode a character.

Imports no torch.
"""

import codecs
import errno
import io
import os
import sys
from typing import Any, TextIO, cast

CLOSED = {errno.EPIPE, errno.EIO, errno.ENXIO, errno.EBADF}
"""Errors of a stream whose reader or terminal is closed."""


def protect_streams() -> None:
    """Make writing to the standard streams of this process safe.

    - Log lines that cannot be written to stderr are dropped, as in `headrace train 2>&1 | head -1`.
    - stdout escapes characters that its encoding lacks, as stderr does by default.
    - A stream that the parent process has closed becomes /dev/null. Otherwise the next opened file
      would get its file descriptor.
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
    """Return whether the encoding of a stream has all characters, as UTF-8 does."""
    encoding = getattr(stream, "encoding", None)
    return encoding is None or codecs.lookup(encoding).name.startswith("utf")


class ForgivingStream:
    """A text stream that drops text that cannot be written."""

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
        """If the reader is gone, redirect the file descriptor to /dev/null, for C++ code, too."""
        if error.errno in CLOSED:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)
