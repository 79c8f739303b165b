"""Files and folders that appear under their name complete, or not at all.

A result is written under a temporary name beside its own, flushed to disk and renamed, so that a
crash or a power cut leaves either the old content or the new one.
"""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from io import BufferedWriter
from pathlib import Path

from pipeline.errors import DatasetError

CANNOT_SYNC = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of a file system that cannot flush a file, or on which a folder cannot be flushed."""
CANNOT_SYNC_FOLDER = CANNOT_SYNC | {errno.EBADF, errno.EISDIR, errno.EACCES, errno.EPERM}


@contextmanager
def replaced(path: Path, *, sync: bool = True) -> Iterator[Path]:
    """Yield a temporary path whose content takes the name `path` at the end.

    The temporary path may become a file, a link or a folder of files. A file or a link replaces
    the old one in one step. The temporary path is removed if the block raises; a killed process
    leaves it, and the next writer of `path` overwrites it. Only one process at a time may write
    `path`. `sync=False` leaves out the flush to disk, for content whose readers verify a checksum.
    Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    _remove(temporary)
    try:
        yield temporary
        if temporary.is_dir() and not temporary.is_symlink():
            for file in temporary.iterdir():
                sync_path(file)
            sync_path(temporary)
            _remove(path)  # a folder that is not empty cannot be replaced
            temporary.rename(path)
            sync_path(path.parent)
        else:
            if sync:
                sync_path(temporary)
            temporary.replace(path)
    except BaseException:
        _remove(temporary)
        raise


def write_file(path: Path, content: str | bytes, *, sync: bool = True) -> None:
    """Replace a file's content at once. Raises OSError."""
    data = content.encode() if isinstance(content, str) else content
    with replaced(path, sync=sync) as temporary:
        temporary.write_bytes(data)


def replace_link(link: Path, target: str) -> None:
    """Make `link` a symbolic link to `target`, at once. Raises OSError."""
    with replaced(link, sync=False) as temporary:
        temporary.symlink_to(target)


@contextmanager
def atomic_file(path: Path) -> Iterator[BufferedWriter]:
    """Yield a binary file that appears as `path` at the end.

    Raises DatasetError if the disk fails.
    """
    with disk_errors(path), replaced(path) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Raise an OSError of the block, which may contain only writes, as DatasetError."""
    try:
        yield
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be written: {error.strerror or error}; nothing incomplete is kept "
            "under a final name, and the same command resumes from the work that is done"
        ) from None


def sync_path(path: Path) -> None:
    """Flush a file's content, or a folder's list of names, to disk. Raises OSError.

    Some network file systems cannot flush a folder (EINVAL). The names are then as safe as that
    file system makes them.
    """
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        if error.errno not in (CANNOT_SYNC_FOLDER if path.is_dir() else CANNOT_SYNC):
            raise


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def remove_temporary_files(folder: Path) -> None:
    """Remove the temporary files and folders that killed writers left anywhere below `folder`.

    No process may be writing there. Raises OSError.
    """
    for path in list(folder.rglob(".*.tmp")):
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
