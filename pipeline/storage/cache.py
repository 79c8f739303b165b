"""What a node has read from a URL, kept in a folder that its ranks share, at most so many bytes.

An entry is a file, written beside its name and renamed, so that a process killed at any time
leaves no half of one. The file `bytes` counts what is taken: it is raised before an entry is made
and counted anew when entries are evicted, those used least recently first. A disk that cannot be
written to costs the cache, never the run. Whoever reads checks the checksum, and asks again with
`fresh` where it fails.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from pipeline.errors import DatasetError
from pipeline.storage.base import Range, Store
from pipeline.storage.local import LocalStore

LEFT_BY_EVICTION = 0.9
"""Share of the bound that may still be taken when entries had to go, so that they go in bulk."""
ABANDONED = 3600
"""Seconds after which an unfinished entry is taken for that of a killed process."""
OWN = "headrace-cache"
"""The folder in the folder: nothing beside it is counted or evicted."""
LARGEST = 0.1
"""Share of the bound that one entry may take."""
PART = 8 << 20
"""Bytes of a whole file that one request asks for."""

Read = bytes | DatasetError


class CachedStore:
    """A store whose ranges, or with `whole_files` the files they lie in, are kept in `folder`.

    `space` tells what lies in this store from what other stores keep in the same folder. `limit`
    bounds the bytes of the folder over all spaces and processes.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        limit: int,
        *,
        space: str,
        whole_files: bool = False,
        say: Callable[[str], None] = print,
    ) -> None:
        self.location = store.location
        self._store, self._folder, self._limit = store, folder / OWN, limit
        self._local = LocalStore(folder / OWN / space)
        self._whole_files, self._say = whole_files, say
        self._sizes: dict[str, int] = {}
        self._writes = True

    def whole(self, name: str) -> bytes:
        return self._store.whole(name)

    def size(self, name: str) -> int | None:
        return self._store.size(name)

    def read(self, ranges: Sequence[Range], *, fresh: bool = False) -> list[Read]:
        units = list(ranges) if fresh else [self._unit(r) for r in ranges]
        inside = [
            Range(_entry(unit), r.start - unit.start, r.stop - unit.start)
            for r, unit in zip(ranges, units, strict=True)
        ]
        found: list[Read | None] = [None] * len(ranges)
        if fresh:
            self._forget([*inside, *(Range(_entry(self._unit(r)), 0, 0) for r in ranges)])
        else:
            for i, data in enumerate(self._local.read(inside)):
                if isinstance(data, bytes):
                    self._touch(inside[i].name)
                    found[i] = data
        missing = [i for i, data in enumerate(found) if data is None]
        for group in self._groups({units[i] for i in missing}):
            fetched = self._fetch(group)
            for i in missing:
                if units[i] in fetched:
                    found[i] = self._part(fetched[units[i]], inside[i])
            for unit, data in fetched.items():
                if isinstance(data, bytes):
                    self._keep(_entry(unit), data)
        return [data for data in found if data is not None]

    def _unit(self, wanted: Range) -> Range:
        """What is fetched and kept for the sake of a range."""
        if not self._whole_files:
            return wanted
        if wanted.name not in self._sizes:
            size = self._store.size(wanted.name)
            if size is None:  # what it lacks will be said of the range
                return wanted
            self._sizes[wanted.name] = size
        size = self._sizes[wanted.name]
        return Range(wanted.name, 0, size) if size <= self._limit * LARGEST else wanted

    def _groups(self, units: set[Range]) -> Iterable[list[Range]]:
        """Units to hold in memory together."""
        return [[unit] for unit in sorted(units)] if self._whole_files else [sorted(units)]

    def _fetch(self, units: Sequence[Range]) -> dict[Range, Read]:
        parts = [
            Range(unit.name, start, min(start + PART, unit.stop))
            for unit in units
            for start in range(unit.start, unit.stop, PART)
        ]
        coming = iter(self._store.read(parts))
        fetched: dict[Range, Read] = {}
        for unit in units:
            read = [next(coming) for _ in range(unit.start, unit.stop, PART)]
            whole = [data for data in read if isinstance(data, bytes)]
            broken = [data for data in read if isinstance(data, DatasetError)]
            fetched[unit] = broken[0] if broken else b"".join(whole)
        return fetched

    def _forget(self, entries: Iterable[Range]) -> None:
        for entry in entries:
            (self._local.folder / entry.name).unlink(missing_ok=True)

    def _part(self, data: Read, inside: Range) -> Read:
        if isinstance(data, DatasetError) or len(data) >= inside.stop:
            return data if isinstance(data, DatasetError) else data[inside.start : inside.stop]
        return DatasetError(f"{self.location}/{inside.name}: is truncated")

    def _touch(self, name: str) -> None:
        with suppress(OSError):  # another process may just have evicted it
            os.utime(self._local.folder / name)

    def _keep(self, name: str, data: bytes) -> None:
        """Write an entry, unless it is too large to be one."""
        if not self._writes or len(data) > self._limit * LARGEST:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self._folder / "lock"):
                self._reserve(len(data))
                _write(self._local.folder / name, data)
        except OSError as error:
            self._writes = False
            self._say(
                f"{self._folder}: cannot be written ({error.strerror}); what is kept there is "
                "still used, the rest is read from its source each time"
            )

    def _reserve(self, size: int) -> None:
        """Count `size` more bytes as taken; entries are evicted if that passes the bound."""
        count = self._folder / "bytes"
        try:
            taken = int(count.read_text())
        except (OSError, ValueError):
            taken = self._limit  # unknown: count anew
        if taken + size > self._limit:
            taken = self._evict(int(self._limit * LEFT_BY_EVICTION) - size)
        _write(count, str(taken + size).encode())

    def _evict(self, room: int) -> int:
        """Remove entries until the others take at most `room` bytes; returns what they take."""
        entries, taken = [], 0
        for path in self._folder.rglob("*-*"):
            with suppress(OSError):
                facts = path.stat()
                age = time.time() - facts.st_mtime
                if path.suffix == ".tmp" and age > ABANDONED:
                    path.unlink()
                elif path.is_file():
                    taken += facts.st_size
                    if path.suffix != ".tmp":
                        entries.append((facts.st_mtime_ns, facts.st_size, path))
        for _, size, path in sorted(entries):
            if taken <= room:
                break
            path.unlink(missing_ok=True)
            taken -= size
        return taken


def _entry(unit: Range) -> str:
    return f"{unit.name}/{unit.start}-{unit.stop}"


def _write(path: Path, data: bytes) -> None:
    """Write a file that appears whole. Not synced: what a power cut damages fails its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    passing = path.with_name(f"{path.name}-{uuid.uuid4().hex}.tmp")
    try:
        passing.write_bytes(data)
        passing.replace(path)
    except OSError:
        passing.unlink(missing_ok=True)
        raise
