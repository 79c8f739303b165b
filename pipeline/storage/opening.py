"""Opens the store of a location: a folder or a URL."""

from pathlib import Path

from pipeline.storage.base import Store, is_url
from pipeline.storage.local import LocalStore


def open_store(location: str | Path, *, attempts: int = 6, timeout: float = 60.0) -> Store:
    """The store of a folder or of a URL that fsspec knows: s3, gs, http and others.

    `attempts` and `timeout`, in seconds, are of each range of a URL.
    """
    if is_url(location):
        from pipeline.storage.remote import RemoteStore

        return RemoteStore(str(location), attempts, timeout)
    return LocalStore(Path(location))
