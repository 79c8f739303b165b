"""Bytes by name out of a folder or a URL, a few ranges of a few files at a time.

A store knows nothing of what the bytes mean; whoever asks for them checks their checksum.
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
    """Files under one location."""

    location: str

    def read(self, ranges: Sequence[Range], *, fresh: bool = False) -> list[bytes | DatasetError]:
        """The bytes of each range, or in their place why they are not there: the file is missing
        or too short. `fresh` passes by what is kept from an earlier read.

        Raises DatasetError if nothing can be said, as the store is out of reach.
        """

    def whole(self, name: str) -> bytes:
        """A small file. Raises DatasetError if it is not there."""

    def size(self, name: str) -> int | None:
        """Bytes of a file; None if it is not there."""


def is_url(location: str | Path) -> bool:
    return "://" in str(location)
