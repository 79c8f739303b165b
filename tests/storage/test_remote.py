"""Ranges of real servers: an S3 server, and an HTTP server that dawdles and fails."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from moto.server import ThreadedMotoServer

from pipeline.errors import DatasetError
from pipeline.storage import remote
from pipeline.storage.base import Range
from pipeline.storage.local import LocalStore
from pipeline.storage.opening import open_store
from pipeline.storage.remote import RemoteStore
from tests.helpers.servers import Files, sleep_first

DATA = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    for name in ("a.tar", "b.tar"):
        (tmp_path / "train" / name).write_bytes(DATA)
    return tmp_path


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A bucket of an S3 server; credentials and endpoint as fsspec reads them."""
    server = ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setitem(fsspec.config.conf, "s3", {"endpoint_url": endpoint})
        fsspec.filesystem("s3").mkdir("corpus")
        yield "s3://corpus/shards"
    server.stop()


RANGES = [Range("train/a.tar", 0, 10), Range("train/b.tar", 500, 1500), Range("train/a.tar", 3, 7)]


def same_as_the_folder(store: Any, folder: Path) -> None:
    """All that a store says agrees with the folder it is a copy of."""
    local = LocalStore(folder)
    assert store.read(RANGES) == local.read(RANGES) == [DATA[r.start : r.stop] for r in RANGES]
    assert store.whole("train/a.tar") == DATA
    assert store.size("train/a.tar") == len(DATA)
    assert store.size("train/c.tar") is None
    wrong = [Range("train/c.tar", 0, 5), Range("train/a.tar", 10200, 10300), RANGES[0]]
    wrong.append(Range("train/a.tar", 20000, 20001))
    missing, short, right, beyond = store.read(wrong)
    assert right == DATA[:10]
    assert isinstance(missing, DatasetError)
    for error in (short, beyond):
        assert isinstance(error, DatasetError)
        assert "it is truncated" in str(error)
    with pytest.raises(DatasetError, match=r"train/c\.tar"):
        store.whole("train/c.tar")


def test_s3(folder: Path, s3: str) -> None:
    fsspec.filesystem("s3").put(str(folder) + "/", s3 + "/", recursive=True)
    same_as_the_folder(open_store(s3), folder)


def test_http(folder: Path) -> None:
    with Files(folder) as files:
        same_as_the_folder(open_store(files.url), folder)


def test_file_systems_that_are_not_asynchronous(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder) + "/", "/shards/", recursive=True)
    same_as_the_folder(open_store("memory://shards"), folder)


def test_a_server_that_fails_for_a_while_is_asked_again(folder: Path) -> None:
    with Files(folder, before=lambda path, count: 503 if count <= 4 else None) as files:
        assert RemoteStore(files.url).read(RANGES) == LocalStore(folder).read(RANGES)
        assert files.asked["train/a.tar"] > 4
    with Files(folder, before=sleep_first(2, 1)) as files:
        assert RemoteStore(files.url, timeout=0.3).read(RANGES)[0] == DATA[:10]


def test_a_server_that_keeps_failing_is_one_clear_line(folder: Path) -> None:
    with Files(folder, before=lambda path, count: 503) as files:
        with pytest.raises(DatasetError) as error:
            RemoteStore(files.url, attempts=3).read(RANGES)
        assert files.asked["train/a.tar"] + files.asked["train/b.tar"] == 3 * len(RANGES)
    assert "train/a.tar: cannot be read; 3 attempt(s) in" in str(error.value)
    assert "503" in str(error.value)
    nobody = RemoteStore("http://127.0.0.1:9", attempts=2)
    for ask in (lambda: nobody.read(RANGES), lambda: nobody.size("a"), lambda: nobody.whole("a")):
        with pytest.raises(DatasetError, match=r"cannot be read; 2 attempt\(s\)"):
            ask()


def test_what_is_forbidden_is_asked_for_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory://shards")

    async def refuse(*args: Any, **keys: Any) -> bytes:
        raise PermissionError("forbidden")

    monkeypatch.setattr(store._files, "_cat_file", refuse)  # type: ignore[attr-defined]
    with pytest.raises(DatasetError, match=r"1 attempt\(s\) .*PermissionError: forbidden"):
        store.read(RANGES)


def test_a_server_without_ranges_is_told_from_damage(folder: Path) -> None:
    asked = pytest.raises(DatasetError, match=r"1 attempt\(s\) .*range of bytes")
    with Files(folder, ranges=False) as files, asked:
        RemoteStore(files.url).read([Range("train/a.tar", 5, 9)])


@pytest.mark.parametrize("status", [401, 403])
def test_what_a_web_server_forbids_is_told_with_its_status(folder: Path, status: int) -> None:
    with Files(folder, before=lambda path, count: status) as files:
        store = RemoteStore(files.url)
        for ask in (lambda: store.whole("train/a.tar"), lambda: store.read(RANGES[:1])):
            with pytest.raises(DatasetError, match=rf"1 attempt\(s\) .*{status}"):
                ask()


def test_a_dropped_connection_is_no_missing_file(folder: Path) -> None:
    with Files(folder, before=lambda path, count: 0 if count < 3 else None) as files:
        assert RemoteStore(files.url).size("train/a.tar") == len(DATA)
    lost = pytest.raises(DatasetError, match=r"3 attempt\(s\) .*Disconnected")
    with Files(folder, before=lambda path, count: 0) as files, lost:
        RemoteStore(files.url, attempts=3).size("train/a.tar")


def test_an_unknown_protocol_says_what_brings_it() -> None:
    with pytest.raises(DatasetError, match=r"nonsense://x: .*headrace\[remote\]"):
        open_store("nonsense://x")


def test_many_ranges_are_under_way_at_a_time(folder: Path) -> None:
    with Files(folder, before=sleep_first(0.2, 10**6)) as files:
        begun = os.times().elapsed
        found = RemoteStore(files.url).read([Range("train/a.tar", i, i + 1) for i in range(32)])
        assert found == [bytes([i]) for i in range(32)]
        assert os.times().elapsed - begun < 3  # one after the other: 6.4 s
