"""Locks between processes, also on a file system without flock.

Where there is flock, the operating system releases a lock however its process ends. Elsewhere (some
network and FUSE file systems) a lock is a file that exists while it is held. The file names its
process, and one that a killed process of this machine has left does not count.
"""

import fcntl
import logging
import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import BaseFileLock

logger = logging.getLogger(__name__)

SOFT = ".held"
"""Suffix of a lock that is a file: a file without it may be left by a process that had flock."""


def file_lock(path: Path) -> "BaseFileLock":
    """Return a lock at `path`, to be acquired. Its folder must exist.

    Acquiring it raises OSError, or filelock.Timeout.
    """
    from filelock import FileLock, SoftFileLock  # not needed for prediction

    if _has_flock(path.parent.absolute()):
        return FileLock(path)
    return SoftFileLock(path.with_name(path.name + SOFT))


def release_hint(lock: "BaseFileLock") -> str:
    """Return a hint on how to remove a lock that its process has not released; may be empty."""
    from filelock import SoftFileLock

    if not isinstance(lock, SoftFileLock):
        return ""
    return f" (if that process has ended, delete {lock.lock_file})"


@cache
def _has_flock(folder: Path) -> bool:
    """Return whether the file system of a folder has flock; if not, log a line."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return _can_lock(file.fileno(), folder)
    except OSError:  # not writable: acquiring the lock reports it
        return True


def _can_lock(handle: int, folder: Path) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:  # no other process has this file open
        logger.info(
            "%s: this file system cannot lock files (%s); instead, a file NAME%s exists while a "
            "process holds a lock",
            folder, error.strerror, SOFT,
        )  # fmt: skip
        return False
    return True
