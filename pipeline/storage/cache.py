"""Size-bounded, node-local read cache for stores at a URL, shared by the ranks of a node.

Each entry is a file that is written under a temporary name and then renamed, so a process that is
killed at any time leaves no partial entry. The file `bytes` holds the cache's total size: it is
raised before an entry is added, and recounted when the least recently used entries are evicted. If
the disk cannot be written to, only caching stops, never the run. Readers verify checksums and read
again with `fresh=True` if one fails.
"""

import logging
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.storage.atomic import write_file
from pipeline.storage.base import Range, Store
from pipeline.storage.local import LocalStore
from pipeline.storage.locks import file_lock

CACHE_SUBFOLDER = "headrace-cache"
"""Subfolder that holds the cache; other files in the user's folder are not counted or evicted."""
MAX_ENTRY_FRACTION = 0.1
"""Largest entry, as a fraction of the size limit."""
FRACTION_AFTER_EVICTION = 0.9
"""Size after an eviction, as a fraction of the limit: entries are evicted in bulk."""
ABANDONED_AFTER = 3600
"""Seconds after which a temporary file is taken to be left by a killed process."""
LOCK_TIMEOUT = 60
"""Seconds to wait for another process to add an entry."""
REQUEST_BYTES = 8 << 20
"""Bytes per request when a whole file is fetched."""

logger = logging.getLogger(__name__)

ReadResult = bytes | DatasetError


class CachedStore:
    """Caches ranges of a store, or with `whole_files` the files that contain them, in `folder`.

    `namespace` separates this store's entries from those of other stores in the same folder.
    `limit` bounds the folder's size in bytes, over all namespaces and processes.
    """

    def __init__(
        self,
        store: Store,
        folder: Path,
        limit: int,
        *,
        namespace: str,
        whole_files: bool = False,
    ) -> None:
        self.location = store.location
        self._store, self._folder, self._limit = store, folder / CACHE_SUBFOLDER, limit
        self._entries = LocalStore(folder / CACHE_SUBFOLDER / namespace)
        self._whole_files = whole_files
        self._file_sizes: dict[str, int] = {}
        self._writable = True

    def read_file(self, name: str) -> bytes:
        return self._store.read_file(name)

    def size(self, name: str) -> int | None:
        return self._store.size(name)

    def read(self, ranges: Sequence[Range], *, fresh: bool = False) -> list[ReadResult]:
        extents = list(ranges) if fresh else [self._extent(r) for r in ranges]
        in_entry = [
            Range(_entry_name(extent), r.start - extent.start, r.stop - extent.start)
            for r, extent in zip(ranges, extents, strict=True)
        ]
        results: list[ReadResult | None] = [None] * len(ranges)
        if fresh:
            in_whole_files = [_entry_name(self._extent(r)) for r in ranges]
            self._remove([*(r.name for r in in_entry), *in_whole_files])
        else:
            for i, data in enumerate(self._entries.read(in_entry)):
                if isinstance(data, bytes):
                    self._mark_used(in_entry[i].name)
                    results[i] = data
        missing = [i for i, data in enumerate(results) if data is None]
        for group in self._fetch_groups({extents[i] for i in missing}):
            fetched = self._fetch(group)
            for i in missing:
                if extents[i] in fetched:
                    results[i] = self._slice(fetched[extents[i]], in_entry[i])
            for extent, data in fetched.items():
                if isinstance(data, bytes):
                    self._add_entry(_entry_name(extent), data)
        return [data for data in results if data is not None]

    def _extent(self, requested: Range) -> Range:
        """Return the range to fetch and cache for a requested range."""
        if not self._whole_files:
            return requested
        if requested.name not in self._file_sizes:
            size = self._store.size(requested.name)
            if size is None:  # reading the range will report the missing file
                return requested
            self._file_sizes[requested.name] = size
        size = self._file_sizes[requested.name]
        is_cacheable = size <= self._limit * MAX_ENTRY_FRACTION
        return Range(requested.name, 0, size) if is_cacheable else requested

    def _fetch_groups(self, extents: set[Range]) -> Iterable[list[Range]]:
        """Split extents into groups that are held in memory together."""
        return [[extent] for extent in sorted(extents)] if self._whole_files else [sorted(extents)]

    def _fetch(self, extents: Sequence[Range]) -> dict[Range, ReadResult]:
        requests = [
            Range(extent.name, start, min(start + REQUEST_BYTES, extent.stop))
            for extent in extents
            for start in range(extent.start, extent.stop, REQUEST_BYTES)
        ]
        responses = iter(self._store.read(requests))
        fetched: dict[Range, ReadResult] = {}
        for extent in extents:
            parts = [next(responses) for _ in range(extent.start, extent.stop, REQUEST_BYTES)]
            errors = [part for part in parts if isinstance(part, DatasetError)]
            data = [part for part in parts if isinstance(part, bytes)]
            fetched[extent] = errors[0] if errors else b"".join(data)
        return fetched

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self._entries.folder / name).unlink(missing_ok=True)

    def _slice(self, data: ReadResult, in_entry: Range) -> ReadResult:
        if isinstance(data, DatasetError) or len(data) >= in_entry.stop:
            return data if isinstance(data, DatasetError) else data[in_entry.start : in_entry.stop]
        return DatasetError(f"{self.location}/{in_entry.name}: is truncated")

    def _mark_used(self, name: str) -> None:
        with suppress(OSError):  # another process may have evicted the entry just now
            os.utime(self._entries.folder / name)

    def _add_entry(self, name: str, data: bytes) -> None:
        """Write an entry unless it is too large to be cached."""
        if not self._writable or len(data) > self._limit * MAX_ENTRY_FRACTION:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with file_lock(self._folder / "lock").acquire(timeout=LOCK_TIMEOUT):
                self._reserve(len(data))
                # Not synced: checksums detect an entry that a power failure has damaged.
                write_file(self._entries.folder / name, data, sync=False)
        except OSError as error:
            self._writable = False
            logger.warning(
                "%s: cannot be written (%s); existing cache entries are still used, all other "
                "data is read from its source each time",
                self._folder,
                error.strerror or error,
            )

    def _reserve(self, size: int) -> None:
        """Add `size` bytes to the total; evict entries if that would exceed the limit."""
        total_file = self._folder / "bytes"
        try:
            total = int(total_file.read_text())
        except (OSError, ValueError):
            total = self._limit  # unknown: makes the eviction below recount it
        if total + size > self._limit:
            total = self._evict(int(self._limit * FRACTION_AFTER_EVICTION) - size)
        write_file(total_file, str(total + size), sync=False)

    def _evict(self, target: int) -> int:
        """Remove entries until they take at most `target` bytes; return the bytes they take."""
        entries, total = [], 0
        for path in self._folder.rglob("*-*"):
            with suppress(OSError):
                stat = path.stat()
                age = time.time() - stat.st_mtime
                if path.suffix == ".tmp" and age > ABANDONED_AFTER:
                    path.unlink()
                elif path.is_file():
                    total += stat.st_size
                    if path.suffix != ".tmp":
                        entries.append((stat.st_mtime_ns, stat.st_size, path))
        for _, size, path in sorted(entries):
            if total <= target:
                break
            path.unlink(missing_ok=True)
            total -= size
        return total


def _entry_name(extent: Range) -> str:
    return f"{extent.name}/{extent.start}-{extent.stop}"
