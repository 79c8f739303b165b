"""The `Store` interface: byte ranges of named files in a folder or at a URL.

A store does not interpret the bytes that it reads; its callers verify checksums.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from pipeline.errors import DatasetError


class Range(NamedTuple):
    """Bytes [start, stop) of a file."""

    name: str
    start: int
    stop: int


class Store(Protocol):
    """Read access to the files below one location."""

    location: str

    def read(self, ranges: Sequence[Range], *, fresh: bool = False) -> list[bytes | DatasetError]:
        """Read byte ranges.

        Returns for each range its bytes, or a DatasetError if the file is missing or too short.
        `fresh=True` bypasses any cache. Raises DatasetError if the store cannot be reached.
        """

    def read_file(self, name: str) -> bytes:
        """Return the content of a small file. Raises DatasetError if it is missing."""

    def size(self, name: str) -> int | None:
        """Return a file's size in bytes, or None if it is missing."""


def is_url(location: str | Path) -> bool:
    return "://" in str(location)
