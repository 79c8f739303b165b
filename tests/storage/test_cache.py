"""The cache: never wrong, never past its bound, and never the reason that a run ends."""

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
from pipeline.storage.cache import OWN, CachedStore
from pipeline.storage.local import LocalStore

ROOT = Path(__file__).parents[2]
SIZE = 1000
RANGES = [Range("a.tar", i * SIZE, (i + 1) * SIZE) for i in range(20)]


class Counted(LocalStore):
    """A folder that counts what is asked of it."""

    bytes = 0

    def read(self, ranges: Any, *, fresh: bool = False) -> Any:
        self.bytes += sum(r.stop - r.start for r in ranges)
        return super().read(ranges)


@pytest.fixture
def source(tmp_path: Path) -> Counted:
    (tmp_path / "source").mkdir()
    data = b"".join(bytes([i]) * SIZE for i in range(20))
    (tmp_path / "source" / "a.tar").write_bytes(data)
    return Counted(tmp_path / "source")


def cached(source: Counted, folder: Path, limit: int = 300_000, **keys: Any) -> CachedStore:
    return CachedStore(source, folder, limit, space="of", **keys)


def taken(folder: Path) -> int:
    total = 0
    for path in (folder / OWN / "of").rglob("*-*"):
        with suppress(FileNotFoundError):  # evicted meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


@pytest.mark.parametrize("whole_files", [False, True])
def test_what_was_read_once_is_not_fetched_again(
    source: Counted, tmp_path: Path, whole_files: bool
) -> None:
    expected = LocalStore(source.folder).read(RANGES)
    for _ in range(3):  # another process each time, as far as it can tell
        store = cached(source, tmp_path / "kept", whole_files=whole_files)
        assert store.read(RANGES) == expected
    assert source.bytes == 20 * SIZE
    assert store.read(RANGES[:1], fresh=True) == expected[:1]
    assert source.bytes == 21 * SIZE


def test_it_stays_within_its_bound_and_keeps_what_was_used_last(
    source: Counted, tmp_path: Path
) -> None:
    store = cached(source, tmp_path / "kept", limit=12 * SIZE)
    for i, wanted in enumerate(RANGES):
        store.read([wanted])
        os.utime(tmp_path / "kept" / OWN / "of" / f"a.tar/{wanted.start}-{wanted.stop}", (i, i))
        store.read(RANGES[:1])  # used all the time
        assert taken(tmp_path / "kept") <= 12 * SIZE
    source.bytes = 0
    store.read([RANGES[0], *RANGES[-5:]])
    assert source.bytes == 0
    store.read(RANGES[1:3])
    assert source.bytes == 2 * SIZE


def test_what_else_lies_in_the_folder_is_left_alone(source: Counted, tmp_path: Path) -> None:
    (tmp_path / "kept" / "thesis").mkdir(parents=True)
    others = [tmp_path / "kept" / name for name in ("thesis/my-thesis.tex", "draft-1.tmp")]
    for path in others:
        path.write_bytes(bytes(20 * SIZE))
        os.utime(path, (1, 1))
    cached(source, tmp_path / "kept", limit=12 * SIZE).read(RANGES)
    assert all(path.exists() for path in others)


def test_what_is_too_large_is_not_kept(source: Counted, tmp_path: Path) -> None:
    store = cached(source, tmp_path / "kept", limit=5 * SIZE)
    assert store.read(RANGES) == LocalStore(source.folder).read(RANGES)
    assert not taken(tmp_path / "kept")


def test_missing_and_short_files_stay_errors(source: Counted, tmp_path: Path) -> None:
    for whole_files in (False, True):
        store = cached(source, tmp_path / "kept", whole_files=whole_files)
        beyond, missing, right = store.read(
            [Range("a.tar", 19_500, 20_500), Range("b.tar", 0, 5), RANGES[0]]
        )
        assert isinstance(beyond, DatasetError)
        assert isinstance(missing, DatasetError)
        assert right == bytes(SIZE)


def test_a_disk_that_cannot_be_written_costs_the_cache_alone(
    source: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    said: list[str] = []
    store = cached(source, tmp_path / "kept", say=said.append)
    store.read(RANGES[:5])
    monkeypatch.setattr(cache, "_write", full)
    assert store.read(RANGES) == LocalStore(source.folder).read(RANGES)
    store.read(RANGES)
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert source.bytes == (5 + 15 + 15) * SIZE  # the first five are still used


KEEP_ON = """
import sys; sys.path.insert(0, {root!r})
from tests.storage.test_cache import *
source = Counted(Path({source!r}))
store = cached(source, Path({folder!r}), limit=12 * SIZE)
print("up", flush=True)
while True:
    for wanted in RANGES:
        assert store.read([wanted]) == [bytes([wanted.start // SIZE]) * SIZE]
"""


def test_ranks_share_it_and_may_be_killed_at_any_time(source: Counted, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    code = KEEP_ON.format(root=str(ROOT), source=str(source.folder), folder=str(folder))
    for _ in range(2):
        ranks = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(3)
        ]
        for rank in ranks:
            assert rank.stdout
            assert rank.stdout.readline() == b"up\n"
        end = time.monotonic() + 1
        while time.monotonic() < end:
            assert taken(folder) <= 12 * SIZE
        for rank in ranks:
            assert rank.poll() is None  # each read what is right until then
            rank.send_signal(signal.SIGKILL)
            rank.communicate()
    store = cached(source, folder, limit=12 * SIZE)
    assert store.read(RANGES) == LocalStore(source.folder).read(RANGES)
    assert taken(folder) <= 12 * SIZE


def test_what_a_killed_process_left_unfinished_is_removed_in_time(
    source: Counted, tmp_path: Path
) -> None:
    folder = tmp_path / "kept"
    (folder / OWN / "of").mkdir(parents=True)
    old, new = (folder / OWN / "of" / f"0-1000-{end}.tmp" for end in ("aa", "bb"))
    for path in (old, new):
        path.write_bytes(bytes(SIZE))
    os.utime(old, (1, 1))
    cached(source, folder, limit=12 * SIZE).read(RANGES)
    assert not old.exists()
    assert new.exists()
