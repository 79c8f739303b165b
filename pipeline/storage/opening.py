"""Open a store for a folder or a URL."""

from pathlib import Path

from pipeline.storage.base import Store, is_url
from pipeline.storage.local import LocalStore


def open_store(location: str | Path, *, attempts: int = 6, timeout: float = 60.0) -> Store:
    """Return the store for a folder, or for a URL that fsspec supports (s3, gs, http, ...).

    `attempts` and `timeout` (seconds per attempt) apply to each range read from a URL. Raises
    DatasetError if fsspec does not know the URL's protocol.
    """
    if is_url(location):
        from pipeline.storage.remote import RemoteStore

        return RemoteStore(str(location), attempts, timeout)
    return LocalStore(Path(location))
