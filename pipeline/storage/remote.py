"""Store for a URL: concurrent range reads through fsspec, retried with exponential backoff.

fsspec handles credentials and endpoints: its configuration files and environment variables
(FSSPEC_S3_ENDPOINT_URL, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, ...) apply here.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import fsspec
from fsspec.asyn import get_loop, sync
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

from pipeline.errors import DatasetError
from pipeline.storage.base import Range

MAX_CONCURRENT_READS = 32
"""Ranges that are read at the same time."""
FIRST_RETRY_DELAY = 0.25
"""Seconds before the second attempt. The delay doubles with each attempt, with random jitter."""


class RemoteStore:
    """Read access to the files below a URL.

    Each read has up to `attempts` attempts of at most `timeout` seconds each. Raises DatasetError
    if fsspec does not know the URL's protocol, and from reads when all attempts have failed.
    """

    def __init__(self, url: str, attempts: int = 6, timeout: float = 60.0) -> None:
        self.location = url.rstrip("/")
        self.attempts, self.timeout = attempts, timeout
        try:
            filesystem, self._root = fsspec.core.url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise DatasetError(
                f"{url}: cannot be opened: {error}; for s3, gs and http, run "
                "pip install headrace[remote]"
            ) from None
        self._filesystem: Any = (
            filesystem if filesystem.async_impl else AsyncFileSystemWrapper(filesystem)
        )

    def read(self, ranges: Sequence[Range], *, fresh: bool = False) -> list[bytes | DatasetError]:
        results: list[bytes | DatasetError] = [b""] * len(ranges)
        pending = list(range(len(ranges)))
        started = time.monotonic()
        for attempt in range(self.attempts):
            outcomes = sync(get_loop(), self._fetch, [ranges[i] for i in pending])
            failed: list[tuple[int, Exception]] = []
            for i, outcome in zip(pending, outcomes, strict=True):
                if isinstance(outcome, bytes | DatasetError):
                    results[i] = outcome
                else:
                    failed.append((i, outcome))
            if not failed:
                return results
            first_failed, error = failed[0]
            self._wait_or_raise(attempt, ranges[first_failed].name, error, started)
            pending = [i for i, _ in failed]
        raise AssertionError("the last attempt raises")

    def read_file(self, name: str) -> bytes:
        size = self.size(name)
        if size is None:
            raise DatasetError(f"{self.location}/{name}: does not exist")
        (data,) = self.read([Range(name, 0, size)])
        if isinstance(data, DatasetError):
            raise data
        return data

    def size(self, name: str) -> int | None:
        started = time.monotonic()
        for attempt in range(self.attempts):
            try:
                size: int | None = sync(get_loop(), self._info, name)["size"]
                if size is None:
                    raise DatasetError(
                        f"{self.location}/{name}: the server does not report the file's size, so "
                        "it cannot be read by ranges; copy the dataset to a folder"
                    )
                return size
            except DatasetError:
                raise
            except Exception as error:
                if _is_missing(error):
                    return None
                self._wait_or_raise(attempt, name, error, started)
        raise AssertionError("the last attempt raises")

    async def _info(self, name: str) -> Any:
        return await asyncio.wait_for(self._filesystem._info(self._path(name)), self.timeout)

    async def _fetch(self, ranges: list[Range]) -> list[Any]:
        """Read all ranges concurrently.

        Returns for each range its bytes, a DatasetError if they do not exist, or the exception
        after which the read may be retried.
        """
        semaphore = asyncio.Semaphore(MAX_CONCURRENT_READS)

        async def fetch_one(requested: Range) -> bytes | DatasetError:
            name, start, stop = requested
            async with semaphore:
                try:
                    response = self._filesystem._cat_file(self._path(name), start=start, end=stop)
                    data: bytes = await asyncio.wait_for(response, self.timeout)
                except Exception as error:
                    if _is_missing(error):
                        return DatasetError(f"{self.location}/{name}: does not exist")
                    if not _is_past_the_end(error):
                        raise
                    data = b""
            if len(data) > stop - start:
                raise _NoRangesError("the server does not support range requests")
            if len(data) < stop - start:
                return DatasetError(
                    f"{self.location}/{name}: ends before byte {stop:,}, the file is truncated"
                )
            return data

        return await asyncio.gather(*map(fetch_one, ranges), return_exceptions=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _wait_or_raise(self, attempt: int, name: str, error: Exception, started: float) -> None:
        """Wait before the next attempt; raise DatasetError if there is none or it cannot help."""
        cause = error.__cause__ if isinstance(error, FileNotFoundError) else None
        error = cause if isinstance(cause, Exception) else error
        if _is_permanent(error) or attempt + 1 == self.attempts:
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise DatasetError(
                f"{self.location}/{name}: cannot be read; {attempt + 1} attempt(s) in "
                f"{time.monotonic() - started:.0f} s failed ({reason}); when the server is "
                "available again, run the same command to resume"
            ) from None
        time.sleep(FIRST_RETRY_DELAY * 2**attempt * random.uniform(0.5, 1.5))


def _is_missing(error: Exception) -> bool:
    """Return whether the server reports that the file does not exist.

    For web servers, fsspec raises FileNotFoundError for any failure; its cause is the real one.
    """
    cause = error.__cause__
    is_http_error = type(cause).__module__.startswith("aiohttp")
    is_other_failure = isinstance(cause, OSError) or (
        is_http_error and getattr(cause, "status", 0) not in (404, 410)
    )
    return isinstance(error, FileNotFoundError) and not is_other_failure


def _is_permanent(error: BaseException) -> bool:
    """Return whether another attempt would fail in the same way."""
    status = getattr(error, "status", 0)
    return isinstance(error, PermissionError | _NoRangesError) or status in (401, 403)


class _NoRangesError(Exception):
    """The server answers a range request with the whole file."""


def _is_past_the_end(error: Exception) -> bool:
    """Return whether the server reports that the file ends before the requested range."""
    text = f"{error!r} {error.__cause__!r}"
    return getattr(error, "status", 0) == 416 or "InvalidRange" in text or "satisfiable" in text
