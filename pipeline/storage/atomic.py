"""The work folder: every unit's result lands whole or not at all, and is not made twice."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from pipeline.errors import DatasetError

MB = 1_000_000


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the file system refuses into a DatasetError. Only writes belong inside."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be written: {error.strerror or error}; nothing half-written will be "
            "taken for whole, and preparing again goes on from what is done"
        ) from None


@contextmanager
def atomic_file(path: Path) -> Iterator[BufferedWriter]:
    """A file to write that appears under its name once it is whole and on the disk."""
    passing = path.with_name(path.name + ".tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with passing.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        passing.replace(path)


def sync_folder(path: Path) -> None:
    """Make the names in a folder outlast a power cut."""
    with disk_errors(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
