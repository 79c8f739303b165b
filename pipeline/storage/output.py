"""Write access to a folder, or to a location at a URL: files that appear whole or not at all.

Several processes may write at the same time, also the same file if its content is the same.
"""

import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import DatasetError
from pipeline.storage.atomic import sync_path
from pipeline.storage.base import is_url
from pipeline.storage.redaction import without_password

logger = logging.getLogger(__name__)

TEMPORARY = ".tmp"


class Output(Protocol):
    """Write access to the files below one location."""

    location: str

    def sizes(self) -> dict[str, int]:
        """Return the size in bytes of each file, by its path; hidden files are left out. Raises
        DatasetError if the location cannot be listed."""

    def has(self, name: str) -> bool:
        """Return whether there is a file. Raises DatasetError."""

    def read(self, names: Sequence[str]) -> list[bytes]:
        """Return the content of small files. Raises DatasetError if one is missing."""

    def put(self, name: str, data: bytes) -> None:
        """Write a file, or replace it at once. Raises DatasetError if this fails."""

    def remove_temporary(self, before: float) -> None:
        """Remove the files that killed processes have left incomplete before a time."""


def open_output(location: str) -> Output:
    """Return the output at a folder or a URL. Raises DatasetError for an unknown kind of URL."""
    return RemoteOutput(location) if is_url(location) else LocalOutput(Path(location))


class LocalOutput:
    """Writes below a local folder, which is made if it is missing."""

    def __init__(self, folder: Path) -> None:
        self.location, self.folder = str(folder), folder

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with self._errors("listed"):
            if self.folder.exists():
                os.scandir(self.folder).close()  # raises an error if it is no folder
            for parent, folders, names in os.walk(self.folder):
                folders[:] = [name for name in folders if not name.startswith(".")]
                for name in names:
                    path = Path(parent, name)
                    if not name.startswith("."):
                        with suppress(FileNotFoundError):
                            found[path.relative_to(self.folder).as_posix()] = path.stat().st_size
        return found

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file()

    def read(self, names: Sequence[str]) -> list[bytes]:
        with self._errors("read"):
            return [(self.folder / name).read_bytes() for name in names]

    def put(self, name: str, data: bytes) -> None:
        path = self.folder / name
        temporary = path.with_name(f".{path.name}.{os.getpid()}-{time.time_ns()}{TEMPORARY}")
        with self._errors("written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_bytes(data)
                sync_path(temporary)
                temporary.replace(path)
                sync_path(path.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def remove_temporary(self, before: float) -> None:
        with suppress(OSError):
            for path in self.folder.rglob(f".*{TEMPORARY}"):
                if path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise output_error(self.location, action, error.strerror or str(error)) from None


class RemoteOutput:
    """Writes below a URL that fsspec supports; each file is one object, put as a whole.

    fsspec handles credentials and endpoints, as for `RemoteStore`.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.location = without_password(url.rstrip("/"))
        try:
            self._filesystem, root = fsspec.core.url_to_fs(url.rstrip("/"))
        except (ImportError, ValueError) as error:
            raise DatasetError(
                f"{self.location}: cannot be opened: {error}; for s3, gs and http, run "
                "pip install headrace[remote]"
            ) from None
        self._root: str = root

    def sizes(self) -> dict[str, int]:
        with self._errors("listed"):
            self._filesystem.invalidate_cache()
            found: dict[str, Any] = self._filesystem.find(self._root, detail=True)
        start = len(self._root) + 1
        paths = {path[start:]: int(info["size"] or 0) for path, info in found.items()}
        return {p: size for p, size in paths.items() if p and not p.startswith(".")}

    def has(self, name: str) -> bool:
        with self._errors("read"):
            self._filesystem.invalidate_cache()
            return bool(self._filesystem.exists(f"{self._root}/{name}"))

    def read(self, names: Sequence[str]) -> list[bytes]:
        if not names:
            return []
        with self._errors("read"):
            found = self._filesystem.cat([f"{self._root}/{name}" for name in names])
            return [found[f"{self._root}/{name}"] for name in names]

    def put(self, name: str, data: bytes) -> None:
        with self._errors("written"):
            self._filesystem.pipe_file(f"{self._root}/{name}", data)

    def remove_temporary(self, before: float) -> None:
        """Nothing is left: an object appears when all of its bytes have arrived."""

    @contextmanager
    def _errors(self, action: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # of many types, depending on the store
            reason = without_password(" ".join(f"{type(error).__name__}: {error}".split()))
            raise output_error(self.location, action, reason.rstrip(": ")) from None


def output_error(location: str, action: str, reason: str) -> DatasetError:
    """Return the error for an output that cannot be used."""
    error = DatasetError(
        f"--output {location}: cannot be {action}: {reason}; nothing incomplete is kept, and the "
        "same command resumes with the parts that are missing"
    )
    error.local = True
    return error
