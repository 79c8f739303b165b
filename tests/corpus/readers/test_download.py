"""Remote input is fetched whole, once, and gives what a local file gives; a failure is named."""

import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from pipeline.corpus.readers import download
from pipeline.corpus.readers.inputs import resolve
from pipeline.errors import InputError
from tests.helpers.files import content, reviews, write

ROWS = reviews(300)


@pytest.fixture
def store(tmp_path: Path) -> str:
    """The URL of a folder in memory."""
    return f"memory://{tmp_path.name}"


@pytest.fixture
def server(tmp_path: Path):
    """The URL of a web server of tmp_path/web, and the paths that it was asked for by GET."""
    (tmp_path / "web").mkdir()
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        """Breaks off in the middle of what is named broken."""

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def copyfile(self, source, outputfile) -> None:
            data = source.read()
            outputfile.write(data[: len(data) // 2] if "broken" in self.path else data)

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=tmp_path / "web")) as web:
        threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}", asked
        web.shutdown()


def put(store: str, path: Path) -> str:
    """Move a file to the store."""
    url = f"{store}/{path.name}"
    fsspec.filesystem("memory").pipe(url, path.read_bytes())
    path.unlink()
    return url


def made_locally(make, tmp_path: Path) -> dict[str, bytes]:
    write(tmp_path / "local.csv", ROWS)
    return shards_of(make(input="local.csv", shards=str(tmp_path / "local")).path)


def shards_of(folder: Path) -> dict[str, bytes]:
    files = content(folder)
    del files["dataset.json"]
    return files


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl.gz", "tar", "tar.gz"])
def test_a_remote_file_gives_what_a_local_one_gives(make, tmp_path: Path, store: str, suffix: str):
    url = put(store, write(tmp_path / f"a.{suffix}", ROWS))
    manifest = make(input=url, chunk_mb=0.01)
    assert shards_of(manifest.path) == made_locally(make, tmp_path)
    assert [facts.path for facts in manifest.inputs] == [url]
    assert not (tmp_path / "shards.partial").exists()


@pytest.mark.parametrize(
    "pattern", ["{base}/{{0..2}}.csv", "{base}/*.csv", "{base}/{{0,1,2}}.csv?x=y"]
)
def test_a_web_server_serves_many(make, tmp_path: Path, server, pattern: str):
    base, asked = server
    for number in range(3):
        write(tmp_path / "web" / f"{number}.csv", ROWS[number * 100 : number * 100 + 100])
    manifest = make(input=pattern.format(base=base), workers=2)
    assert shards_of(manifest.path) == made_locally(make, tmp_path)
    assert len([path for path in asked if ".csv" in path]) == 3


def test_a_broken_transfer_is_named_and_what_was_fetched_stays(make, tmp_path: Path, server):
    base, asked = server
    for name in ("a.csv", "broken.csv"):
        write(tmp_path / "web" / name, reviews(100, seed=len(name)))
    urls = [f"{base}/a.csv", f"{base}/broken.csv"]
    with pytest.raises(InputError, match=r"broken\.csv: cannot be read: ClientPayloadError: "):
        make(input=urls)
    landed = [path.name for path in (tmp_path / "shards.partial").rglob("*.csv")]
    assert landed == ["000000.csv"]
    with pytest.raises(InputError, match=r"broken\.csv: cannot be read"):
        make(input=urls)
    assert asked == ["/a.csv", "/broken.csv", "/broken.csv"]


def test_a_file_that_changed_is_fetched_anew(make, tmp_path: Path, store: str, monkeypatch):
    url = put(store, write(tmp_path / "a.csv", ROWS))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.corpus.prepare.build.report.count", None)
        with pytest.raises(TypeError):
            make(input=url)
    write(tmp_path / "a.csv", [{**row, "label": row["label"].upper()} for row in ROWS])
    put(store, tmp_path / "a.csv")  # of the same size
    assert make(input=url).names["label"] == ("NEGATIVE", "POSITIVE")


def test_a_file_that_changes_meanwhile_is_named(tmp_path: Path, store: str):
    url = put(store, write(tmp_path / "a.csv", ROWS))
    found = download.remote_version(url)
    assert b"".join(download.fetch(url, found))
    for expected in (found._replace(version="another"), found._replace(bytes=found.bytes + 1)):
        with pytest.raises(
            InputError, match=r"a\.csv: changed while it was being fetched, or came"
        ):
            list(download.fetch(url, expected))


def test_a_ready_dataset_asks_no_server(make, tmp_path: Path, server):
    base, asked = server
    write(tmp_path / "web" / "a.csv", ROWS)
    inputs = [f"{base}/a.csv", f"{base}/*.csv"]
    first = make(input=inputs, validation=0.2)
    asked.clear()
    assert make(input=inputs, validation=0.2) == first
    assert asked == []


MISTAKES = {
    "memory://{name}/no.csv": "no.csv: cannot be read: FileNotFoundError: /",
    "memory://{name}/*.jsonl": "no file matches this pattern",
    "memory://{name}": "is a folder; name its files, such as memory://",
    "memory://{name}/{{a,b}}.csv": "b.csv: cannot be read: FileNotFoundError",
    "memory://{name}/{{a,b.csv": "a brace is not closed, or not opened",
    "{base}/no.csv": "/no.csv: cannot be read: ClientResponseError: 404, message='File not found'",
    "http://127.0.0.1:1/a.csv": "cannot be read: ClientConnectorError: Cannot connect to host",
    "file:///etc/passwd.csv": "file:// is not read; give a path, or s3://, gs://, http://, https",
    "simplecache::memory://a.csv": "simplecache::memory:// is not read",
    "s3://bucket/a.csv": "Install s3fs to access S3; pip install headrace[remote]",
}


@pytest.mark.parametrize("url", MISTAKES)
def test_what_cannot_be_reached_is_named(make, tmp_path: Path, store, server, monkeypatch, url):
    monkeypatch.setitem(sys.modules, "s3fs", None)
    put(store, write(tmp_path / "a.csv", ROWS))
    with pytest.raises(InputError) as error:
        make(input=url.format(name=tmp_path.name, base=server[0]))
    assert MISTAKES[url] in str(error.value)
    assert "\n" not in str(error.value)


def test_only_preparing_reads_remote_files():
    with pytest.raises(InputError, match=r"memory://a\.csv: only preparing reads remote files"):
        resolve(["memory://a.csv"])
