"""Range reads from real servers: an S3 server, and an HTTP server that is slow and fails."""

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
from tests.helpers.servers import FileServer, sleep_first

DATA = bytes(range(256)) * 40


@pytest.fixture(autouse=True)
def no_retry_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "FIRST_RETRY_DELAY", 0.01)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    for name in ("a.tar", "b.tar"):
        (tmp_path / "train" / name).write_bytes(DATA)
    return tmp_path


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """URL of a bucket on an S3 server; fsspec is configured with its endpoint and credentials."""
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


def check_copy(store: Any, folder: Path) -> None:
    """Check that a store returns the same as the folder that it is a copy of."""
    local = LocalStore(folder)
    assert store.read(RANGES) == local.read(RANGES) == [DATA[r.start : r.stop] for r in RANGES]
    assert store.read_file("train/a.tar") == DATA
    assert store.size("train/a.tar") == len(DATA)
    assert store.size("train/c.tar") is None
    requests = [Range("train/c.tar", 0, 5), Range("train/a.tar", 10200, 10300), RANGES[0]]
    requests.append(Range("train/a.tar", 20000, 20001))
    missing, short, valid, past_the_end = store.read(requests)
    assert valid == DATA[:10]
    assert isinstance(missing, DatasetError)
    for error in (short, past_the_end):
        assert isinstance(error, DatasetError)
        assert "the file is truncated" in str(error)
    with pytest.raises(DatasetError, match=r"train/c\.tar"):
        store.read_file("train/c.tar")


def test_s3_ranges_match_the_folder(folder: Path, s3: str) -> None:
    fsspec.filesystem("s3").put(str(folder) + "/", s3 + "/", recursive=True)
    check_copy(open_store(s3), folder)


def test_http_ranges_match_the_folder(folder: Path) -> None:
    with FileServer(folder) as server:
        check_copy(open_store(server.url), folder)


def test_synchronous_file_systems_are_supported(folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(folder) + "/", "/shards/", recursive=True)
    check_copy(open_store("memory://shards"), folder)


def test_transient_errors_and_timeouts_are_retried(folder: Path) -> None:
    with FileServer(folder, before=lambda path, count: 503 if count <= 4 else None) as server:
        assert RemoteStore(server.url).read(RANGES) == LocalStore(folder).read(RANGES)
        assert server.requests["train/a.tar"] > 4
    with FileServer(folder, before=sleep_first(2, 1)) as server:
        assert RemoteStore(server.url, timeout=0.3).read(RANGES)[0] == DATA[:10]


def test_persistent_failures_raise_one_clear_error(folder: Path) -> None:
    with FileServer(folder, before=lambda path, count: 503) as server:
        with pytest.raises(DatasetError) as error:
            RemoteStore(server.url, attempts=3).read(RANGES)
        assert server.requests["train/a.tar"] + server.requests["train/b.tar"] == 3 * len(RANGES)
    assert "train/a.tar: cannot be read; 3 attempt(s) in" in str(error.value)
    assert "503" in str(error.value)
    unreachable = RemoteStore("http://127.0.0.1:9", attempts=2)
    for request in (
        lambda: unreachable.read(RANGES),
        lambda: unreachable.size("a"),
        lambda: unreachable.read_file("a"),
    ):
        with pytest.raises(DatasetError, match=r"cannot be read; 2 attempt\(s\)"):
            request()


def test_permission_errors_are_not_retried(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory://shards")

    async def refuse(*args: Any, **options: Any) -> bytes:
        raise PermissionError("forbidden")

    monkeypatch.setattr(store._filesystem, "_cat_file", refuse)  # type: ignore[attr-defined]
    with pytest.raises(DatasetError, match=r"1 attempt\(s\) .*PermissionError: forbidden"):
        store.read(RANGES)


def test_a_server_without_range_requests_is_not_reported_as_damage(folder: Path) -> None:
    unsupported = pytest.raises(DatasetError, match=r"1 attempt\(s\) .*range requests")
    with FileServer(folder, ranges=False) as server, unsupported:
        RemoteStore(server.url).read([Range("train/a.tar", 5, 9)])


@pytest.mark.parametrize("status", [401, 403])
def test_http_permission_errors_report_their_status(folder: Path, status: int) -> None:
    with FileServer(folder, before=lambda path, count: status) as server:
        store = RemoteStore(server.url)
        for request in (lambda: store.read_file("train/a.tar"), lambda: store.read(RANGES[:1])):
            with pytest.raises(DatasetError, match=rf"1 attempt\(s\) .*{status}"):
                request()


def test_a_dropped_connection_is_not_a_missing_file(folder: Path) -> None:
    with FileServer(folder, before=lambda path, count: 0 if count < 3 else None) as server:
        assert RemoteStore(server.url).size("train/a.tar") == len(DATA)
    disconnected = pytest.raises(DatasetError, match=r"3 attempt\(s\) .*Disconnected")
    with FileServer(folder, before=lambda path, count: 0) as server, disconnected:
        RemoteStore(server.url, attempts=3).size("train/a.tar")


def test_an_unknown_protocol_error_names_the_package_to_install() -> None:
    with pytest.raises(DatasetError, match=r"nonsense://x: .*headrace\[remote\]"):
        open_store("nonsense://x")


@pytest.mark.slow
def test_ranges_are_read_concurrently(folder: Path) -> None:
    with FileServer(folder, before=sleep_first(0.2, 10**6)) as server:
        started = os.times().elapsed
        results = RemoteStore(server.url).read([Range("train/a.tar", i, i + 1) for i in range(32)])
        assert results == [bytes([i]) for i in range(32)]
        assert os.times().elapsed - started < 3  # sequential reads would take 6.4 s
