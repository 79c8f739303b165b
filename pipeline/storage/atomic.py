"""Atomic file writes: a file appears under its name only once it is complete and on disk."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter
from pathlib import Path

from pipeline.errors import DatasetError

MB = 1_000_000


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Convert OSErrors to a DatasetError that names `path`. Only writes belong inside."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be written: {error.strerror or error}; nothing half-written will be "
            "taken as complete: fix the cause and prepare again to resume from the finished parts"
        ) from None


@contextmanager
def atomic_file(path: Path) -> Iterator[BufferedWriter]:
    """Open a file for writing that gets its name once it is complete and synced to disk.

    Raises DatasetError if it cannot be written.
    """
    temporary = path.with_name(path.name + ".tmp")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def sync_folder(path: Path) -> None:
    """Sync a folder's entries to disk, so that its file names survive a power failure."""
    with disk_errors(path):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
