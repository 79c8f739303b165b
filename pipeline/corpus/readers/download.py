"""Remote files on object stores and web servers, which are downloaded completely before reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from pipeline.errors import InputError

SCHEMES = ("s3", "gs", "az", "hf", "http", "https", "memory")
PACKAGES = {
    "s3": "s3fs", "gs": "gcsfs", "az": "adlfs", "hf": "huggingface_hub", "http": "aiohttp",
    "https": "aiohttp",
}  # fmt: skip
"""The package that reads the files of a store; all are in the extra `remote`."""
VERSION_KEYS = (
    "ETag", "etag", "blob_id", "LastModified", "Last-Modified", "mtime", "created", "last_modified",
)  # fmt: skip
CHUNK_BYTES = 1 << 22


class FileVersion(NamedTuple):
    """Identifies a file's content: if the content changes, the version changes."""

    bytes: int
    version: str


def expand_pattern(url: str) -> list[str]:
    """Return the URLs that match a glob pattern, sorted. Raises InputError if there are none."""
    with _store_errors(url):
        filesystem = _filesystem(url)
        urls = sorted(filesystem.unstrip_protocol(path) for path in filesystem.glob(url))
    if not urls:
        raise InputError(f"{url}: no file matches this pattern")
    return urls


def remote_version(url: str) -> FileVersion:
    """Return a file's size, and its ETag or else the time of its last change.

    Raises InputError if the file cannot be reached, is a folder or has no known size.
    """
    with _store_errors(url):
        info = _filesystem(url).info(url)
    if info["type"] != "file":
        raise InputError(f"{url}: is a folder; name its files, such as {url.rstrip('/')}/*.tar")
    if info["size"] is None:
        raise InputError(f"{url}: the server does not report its size; download it yourself")
    version = next((info[key] for key in VERSION_KEYS if info.get(key)), "")
    return FileVersion(info["size"], str(version))


def fetch(url: str, expected: FileVersion) -> Iterator[bytes]:
    """Yield a file's content in chunks.

    Raises InputError after the last chunk if the file's size or version is not the expected one.
    """
    size = 0
    with _store_errors(url):
        filesystem = _filesystem(url)
        # one request for the whole file instead of a request per range
        options = {"block_size": 0} if url.startswith("http") else {}
        with filesystem.open(url, "rb", **options) as file:
            while chunk := file.read(CHUNK_BYTES):
                size += len(chunk)
                yield chunk
        filesystem.invalidate_cache()
    if size != expected.bytes or remote_version(url) != expected:
        raise InputError(
            f"{url}: changed while it was being downloaded, or arrived incomplete ({size:,} of "
            f"{expected.bytes:,} bytes); prepare again"
        )


def _filesystem(url: str) -> Any:
    import fsspec  # takes 0.1 s, and most corpora are local

    scheme = url.partition("://")[0]
    if scheme not in SCHEMES:
        raise InputError(
            f"{url}: {scheme}:// is not supported; give a path, or {'://, '.join(SCHEMES[:-1])}://"
        )
    return fsspec.filesystem(scheme)


@contextmanager
def _store_errors(url: str) -> Iterator[None]:
    """Convert a store's errors, whose types differ from store to store, to InputError."""
    try:
        yield
    except InputError:
        raise
    except ImportError as error:
        package = PACKAGES.get(url.partition("://")[0], "fsspec")
        raise InputError(
            f"{url}: needs the package {package} ({error}); pip install headrace[remote]"
        ) from None
    except Exception as error:
        # fsspec reports any error response of a web server as FileNotFoundError, caused by it
        reason = (isinstance(error, FileNotFoundError) and error.__cause__) or error
        message = " ".join(str(reason).split())
        raise InputError(f"{url}: cannot be read: {type(reason).__name__}: {message}") from None
