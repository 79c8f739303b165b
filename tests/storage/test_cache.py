"""The read cache returns correct bytes, stays within its size limit and never ends a run."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DatasetError
from pipeline.storage import cache
from pipeline.storage.base import Range
from pipeline.storage.cache import CACHE_SUBFOLDER, CachedStore
from pipeline.storage.local import LocalStore
from pipeline.storage.locks import file_lock

ROOT = Path(__file__).parents[2]
SIZE = 1000
RANGES = [Range("a.tar", i * SIZE, (i + 1) * SIZE) for i in range(20)]


class CountingStore(LocalStore):
    """A folder that counts the bytes requested from it."""

    bytes_requested = 0

    def read(self, ranges: Any, *, fresh: bool = False) -> Any:
        self.bytes_requested += sum(r.stop - r.start for r in ranges)
        return super().read(ranges)


@pytest.fixture
def source(tmp_path: Path) -> CountingStore:
    (tmp_path / "source").mkdir()
    data = b"".join(bytes([i]) * SIZE for i in range(20))
    (tmp_path / "source" / "a.tar").write_bytes(data)
    return CountingStore(tmp_path / "source")


def cached(
    source: CountingStore, folder: Path, limit: int = 300_000, **options: Any
) -> CachedStore:
    return CachedStore(source, folder, limit, namespace="test", **options)


def cached_bytes(folder: Path) -> int:
    total = 0
    for path in (folder / CACHE_SUBFOLDER / "test").rglob("*-*"):  # entries are named START-STOP
        with suppress(FileNotFoundError):  # evicted in the meantime
            total += path.stat().st_size if path.is_file() else 0
    return total


@pytest.mark.parametrize("whole_files", [False, True])
def test_cached_ranges_are_fetched_again_only_if_fresh_ones_are_requested(
    source: CountingStore, tmp_path: Path, whole_files: bool
) -> None:
    expected = LocalStore(source.folder).read(RANGES)
    for _ in range(3):  # a new store has no state in memory, like another process
        store = cached(source, tmp_path / "cache", whole_files=whole_files)
        assert store.read(RANGES) == expected
    assert source.bytes_requested == 20 * SIZE
    assert store.read(RANGES[:1], fresh=True) == expected[:1]
    assert source.bytes_requested == 21 * SIZE


def test_least_recently_used_entries_are_evicted_at_the_limit(
    source: CountingStore, tmp_path: Path
) -> None:
    store = cached(source, tmp_path / "cache", limit=12 * SIZE)
    entries = tmp_path / "cache" / CACHE_SUBFOLDER / "test"
    for i, requested in enumerate(RANGES):
        store.read([requested])
        os.utime(entries / f"a.tar/{requested.start}-{requested.stop}", (i, i))
        store.read(RANGES[:1])  # always the most recently used
        assert cached_bytes(tmp_path / "cache") <= 12 * SIZE
    source.bytes_requested = 0
    store.read([RANGES[0], *RANGES[-5:]])
    assert source.bytes_requested == 0
    store.read(RANGES[1:3])
    assert source.bytes_requested == 2 * SIZE


def test_other_files_in_the_folder_are_not_evicted(source: CountingStore, tmp_path: Path) -> None:
    (tmp_path / "cache" / "thesis").mkdir(parents=True)
    others = [tmp_path / "cache" / name for name in ("thesis/my-thesis.tex", "draft-1.tmp")]
    for path in others:
        path.write_bytes(bytes(20 * SIZE))
        os.utime(path, (1, 1))
    cached(source, tmp_path / "cache", limit=12 * SIZE).read(RANGES)
    assert all(path.exists() for path in others)


def test_range_larger_than_a_tenth_of_the_limit_is_not_cached(
    source: CountingStore, tmp_path: Path
) -> None:
    store = cached(source, tmp_path / "cache", limit=5 * SIZE)  # each range is a fifth of it
    assert store.read(RANGES) == LocalStore(source.folder).read(RANGES)
    assert not cached_bytes(tmp_path / "cache")


def test_missing_and_short_files_are_reported_as_errors(
    source: CountingStore, tmp_path: Path
) -> None:
    for whole_files in (False, True):
        store = cached(source, tmp_path / "cache", whole_files=whole_files)
        past_the_end, missing, valid = store.read(
            [Range("a.tar", 19_500, 20_500), Range("b.tar", 0, 5), RANGES[0]]
        )
        assert isinstance(past_the_end, DatasetError)
        assert isinstance(missing, DatasetError)
        assert valid == bytes(SIZE)


def test_reads_continue_without_caching_when_the_disk_is_full(
    source: CountingStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail_to_write(path: Path, data: bytes, *, sync: bool) -> None:
        raise OSError(28, "No space left on device")

    store = cached(source, tmp_path / "cache")
    store.read(RANGES[:5])
    monkeypatch.setattr(cache, "write_file", fail_to_write)
    assert store.read(RANGES) == LocalStore(source.folder).read(RANGES)
    store.read(RANGES)
    assert len(caplog.messages) == 1
    assert "No space left on device" in caplog.messages[0]
    assert source.bytes_requested == (5 + 15 + 15) * SIZE  # the first five are still used


READ_FOREVER = """
import sys; sys.path.insert(0, {root!r})
from tests.storage.test_cache import *
source = CountingStore(Path({source!r}))
store = cached(source, Path({folder!r}), limit=12 * SIZE)
print("up", flush=True)
while True:
    for requested in RANGES:
        assert store.read([requested]) == [bytes([requested.start // SIZE]) * SIZE]
"""


@pytest.mark.distributed
def test_processes_that_share_a_cache_may_be_killed_at_any_time(
    source: CountingStore, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    code = READ_FOREVER.format(root=str(ROOT), source=str(source.folder), folder=str(folder))
    for _ in range(2):
        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)
        ]
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert cached_bytes(folder) <= 12 * SIZE
        for process in processes:
            assert process.poll() is None  # all of its reads were correct so far
            process.send_signal(signal.SIGKILL)
            process.communicate()
    store = cached(source, folder, limit=12 * SIZE)
    assert store.read(RANGES) == LocalStore(source.folder).read(RANGES)
    assert cached_bytes(folder) <= 12 * SIZE


def test_temporary_files_of_killed_processes_are_removed_after_a_while(
    source: CountingStore, tmp_path: Path
) -> None:
    folder = tmp_path / "cache"
    entries = folder / CACHE_SUBFOLDER / "test"
    entries.mkdir(parents=True)
    abandoned, recent = (entries / f"0-1000-{suffix}.tmp" for suffix in ("aa", "bb"))
    for path in (abandoned, recent):
        path.write_bytes(bytes(SIZE))
    os.utime(abandoned, (1, 1))
    cached(source, folder, limit=12 * SIZE).read(RANGES)
    assert not abandoned.exists()
    assert recent.exists()


def test_a_lock_that_is_never_released_ends_caching_only(
    source: CountingStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cache, "LOCK_TIMEOUT", 0.1)
    store = cached(source, tmp_path)
    (tmp_path / CACHE_SUBFOLDER).mkdir()
    with file_lock(tmp_path / CACHE_SUBFOLDER / "lock"):
        assert store.read(RANGES[:1]) == [bytes(SIZE)]
        assert store.read(RANGES[1:2]) == [b"\1" * SIZE]
    (line,) = caplog.messages
    assert "lock' could not be acquired" in line
    assert cached_bytes(tmp_path) == 0
