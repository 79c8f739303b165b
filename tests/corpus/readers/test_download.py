"""Tests of remote input: the same dataset as from local files, one download, clear errors."""

import sys
import threading
import tomllib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from fsspec.registry import _registry

from pipeline.corpus.readers import download
from pipeline.corpus.readers.inputs import resolve
from pipeline.errors import InputError
from tests.helpers.files import content, reviews, write
from tests.helpers.processes import REPOSITORY

ROWS = reviews(300)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """Return the URL of a folder in memory."""
    return f"memory://{tmp_path.name}"


@pytest.fixture
def server(tmp_path: Path):
    """Yield the URL of a web server for tmp_path/web, and the list of paths of GET requests."""
    (tmp_path / "web").mkdir()
    requested: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        """Sends only the first half of files whose path contains "broken"."""

        def do_GET(self) -> None:
            requested.append(self.path)
            super().do_GET()

        def copyfile(self, source, outputfile) -> None:
            data = source.read()
            outputfile.write(data[: len(data) // 2] if "broken" in self.path else data)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "web")) as web:
        threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}", requested
        web.shutdown()


def upload(store: str, path: Path) -> str:
    """Move a file to the store and return its URL."""
    url = f"{store}/{path.name}"
    fsspec.filesystem("memory").pipe(url, path.read_bytes())
    path.unlink()
    return url


def local_dataset(prepare_dataset, tmp_path: Path) -> dict[str, bytes]:
    write(tmp_path / "local.csv", ROWS)
    return shards_of(prepare_dataset(input="local.csv", shards=str(tmp_path / "local")).path)


def shards_of(folder: Path) -> dict[str, bytes]:
    """Return all files of a dataset except its manifest."""
    files = content(folder)
    del files["dataset.json"]
    return files


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl.gz", "tar", "tar.gz"])
def test_remote_file_gives_the_same_dataset_as_a_local_file(
    prepare_dataset, tmp_path: Path, store: str, suffix: str
):
    url = upload(store, write(tmp_path / f"a.{suffix}", ROWS))
    manifest = prepare_dataset(input=url, chunk_mb=0.01)
    assert shards_of(manifest.path) == local_dataset(prepare_dataset, tmp_path)
    assert [facts.path for facts in manifest.inputs] == [url]
    assert not (tmp_path / "shards.partial").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "pattern", ["{base}/{{0..2}}.csv", "{base}/*.csv", "{base}/{{0,1,2}}.csv?x=y"]
)
def test_several_files_are_downloaded_once_from_a_web_server(
    prepare_dataset, tmp_path: Path, server, pattern: str
):
    base, requested = server
    for number in range(3):
        write(tmp_path / "web" / f"{number}.csv", ROWS[number * 100 : number * 100 + 100])
    manifest = prepare_dataset(input=pattern.format(base=base), workers=2)
    assert shards_of(manifest.path) == local_dataset(prepare_dataset, tmp_path)
    assert len([path for path in requested if ".csv" in path]) == 3


def test_broken_download_is_an_error_and_finished_downloads_are_kept(
    prepare_dataset, tmp_path: Path, server
):
    base, requested = server
    for name in ("a.csv", "broken.csv"):
        write(tmp_path / "web" / name, reviews(100, seed=len(name)))
    urls = [f"{base}/a.csv", f"{base}/broken.csv"]
    with pytest.raises(InputError, match=r"broken\.csv: cannot be read: ClientPayloadError: "):
        prepare_dataset(input=urls)
    downloaded = [path.name for path in (tmp_path / "shards.partial").rglob("*.download")]
    assert len(downloaded) == 1
    with pytest.raises(InputError, match=r"broken\.csv: cannot be read"):
        prepare_dataset(input=urls)
    assert requested == ["/a.csv", "/broken.csv", "/broken.csv"]


def test_changed_file_is_downloaded_again(prepare_dataset, tmp_path: Path, store: str, monkeypatch):
    url = upload(store, write(tmp_path / "a.csv", ROWS))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.corpus.prepare.build.report.count", None)
        with pytest.raises(TypeError):
            prepare_dataset(input=url)
    write(tmp_path / "a.csv", [{**row, "label": row["label"].upper()} for row in ROWS])
    upload(store, tmp_path / "a.csv")  # has the same size
    assert prepare_dataset(input=url).names["label"] == ("NEGATIVE", "POSITIVE")


def test_error_if_a_file_changes_during_the_download(tmp_path: Path, store: str):
    url = upload(store, write(tmp_path / "a.csv", ROWS))
    version = download.remote_version(url)
    assert b"".join(download.fetch(url, version))
    for expected in (
        version._replace(version="another"),
        version._replace(bytes=version.bytes + 1),
    ):
        with pytest.raises(
            InputError,
            match=r"a\.csv: changed while it was being downloaded, or arrived incomplete",
        ):
            list(download.fetch(url, expected))


def test_existing_dataset_causes_no_download(prepare_dataset, tmp_path: Path, server):
    base, requested = server
    write(tmp_path / "web" / "a.csv", ROWS)
    inputs = [f"{base}/a.csv", f"{base}/*.csv"]
    first = prepare_dataset(input=inputs, validation=0.2)
    requested.clear()
    assert prepare_dataset(input=inputs, validation=0.2) == first
    assert requested == []


ERRORS = {
    "memory://{name}/no.csv": "no.csv: cannot be read: FileNotFoundError: /",
    "memory://{name}/*.jsonl": "no file matches this pattern",
    "memory://{name}": "is a folder; name its files, such as memory://",
    "memory://{name}/{{a,b}}.csv": "b.csv: cannot be read: FileNotFoundError",
    "memory://{name}/{{a,b.csv": "has an unbalanced brace; close or remove it",
    "{base}/no.csv": "/no.csv: cannot be read: ClientResponseError: 404, message='File not found'",
    "http://127.0.0.1:1/a.csv": "cannot be read: ClientConnectorError: Cannot connect to host",
    "file:///etc/passwd.csv": "file:// is not supported; give a path, or s3://, gs://, az://, hf",
    "simplecache::memory://a.csv": "simplecache::memory:// is not supported",
}


@pytest.mark.parametrize("url", ERRORS)
def test_error_names_a_url_that_cannot_be_read(prepare_dataset, tmp_path: Path, store, server, url):
    upload(store, write(tmp_path / "a.csv", ROWS))
    with pytest.raises(InputError) as error:
        prepare_dataset(input=url.format(name=tmp_path.name, base=server[0]))
    assert ERRORS[url] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("scheme", download.PACKAGES)
def test_error_names_a_missing_package(monkeypatch: pytest.MonkeyPatch, scheme: str):
    package = download.PACKAGES[scheme]
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
    monkeypatch.delitem(_registry, scheme, raising=False)  # another test may have used it
    url = f"{scheme}://bucket/a.csv"
    with pytest.raises(InputError) as error:
        download.remote_version(url)
    assert str(error.value).startswith(f"{url}: needs the package {package} (")
    assert str(error.value).endswith("); pip install headrace[remote]")


def test_extra_lists_the_packages_of_all_stores():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    listed = {r.partition(">")[0] for r in extras["optional-dependencies"]["remote"]}
    assert listed == set(download.PACKAGES.values())
    assert set(download.PACKAGES) == set(download.SCHEMES) - {"memory"}


def test_remote_files_are_rejected_outside_of_preparing():
    with pytest.raises(InputError, match=r"memory://a\.csv: only prepare reads remote files"):
        resolve(["memory://a.csv"])
