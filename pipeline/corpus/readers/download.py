"""Files on object stores and web servers, which preparing fetches whole before it reads them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pipeline.errors import InputError

SCHEMES = ("s3", "gs", "http", "https", "memory")
VERSION_KEYS = ("ETag", "etag", "LastModified", "Last-Modified", "mtime", "created")
CHUNK = 1 << 22  # bytes


class FileVersion(NamedTuple):
    """What tells one state of a file from another."""

    bytes: int
    version: str


def matching(url: str) -> list[str]:
    """The URLs that the pattern `url` matches, sorted."""
    with _reaching(url):
        files = _filesystem(url)
        names = sorted(files.unstrip_protocol(path) for path in files.glob(url))
    if not names:
        raise InputError(f"{url}: no file matches this pattern")
    return names


def remote_version(url: str) -> FileVersion:
    """The size of a file and its etag, or else when it was last changed."""
    with _reaching(url):
        info = _filesystem(url).info(url)
    if info["type"] != "file":
        raise InputError(f"{url}: is a folder; name its files, such as {url.rstrip('/')}/*.tar")
    if info["size"] is None:
        raise InputError(f"{url}: the server does not say how large it is; fetch it by hand")
    version = next((info[key] for key in VERSION_KEYS if info.get(key)), "")
    return FileVersion(info["size"], str(version))


def fetch(url: str, expected: FileVersion) -> Iterator[bytes]:
    """The content of a file in chunks. Raises InputError at the end if it was not as expected."""
    size = 0
    with _reaching(url):
        files = _filesystem(url)
        whole = {"block_size": 0} if url.startswith("http") else {}  # by one request, not by ranges
        with files.open(url, "rb", **whole) as file:
            while chunk := file.read(CHUNK):
                size += len(chunk)
                yield chunk
        files.invalidate_cache()
    if size != expected.bytes or remote_version(url) != expected:
        raise InputError(
            f"{url}: changed while it was being fetched, or came in part ({size:,} bytes of "
            f"{expected.bytes:,}); prepare again"
        )


def _filesystem(url: str) -> Any:
    import fsspec  # takes 0.1 s, and most corpora are local

    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise InputError(
            f"{url}: {scheme}:// is not read; give a path, or {'://, '.join(SCHEMES[:4])}://"
        )
    return fsspec.filesystem(scheme)


@contextmanager
def _reaching(url: str) -> Iterator[None]:
    """Turn what a store refuses into an InputError; each store has its own kinds of error."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        raise InputError(f"{url}: {error}; pip install headrace[remote]") from None
    except Exception as error:
        # fsspec calls whatever a web server answers a missing file, caused by the answer
        reason = (isinstance(error, FileNotFoundError) and error.__cause__) or error
        what = " ".join(str(reason).split())
        raise InputError(f"{url}: cannot be read: {type(reason).__name__}: {what}") from None
