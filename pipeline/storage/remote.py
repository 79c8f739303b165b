"""A URL, read by ranges through fsspec: many at once, each tried again after ever longer waits.

Credentials and endpoints are fsspec's business: its configuration files and environment
(FSSPEC_S3_ENDPOINT_URL, AWS_PROFILE, GOOGLE_APPLICATION_CREDENTIALS, ...) hold here.
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

AT_ONCE = 32
"""Ranges that are under way at a time."""
FIRST_WAIT = 0.25
"""Seconds before the second attempt; each further wait is twice as long, and none quite regular."""


class RemoteStore:
    def __init__(self, url: str, attempts: int = 6, timeout: float = 60.0) -> None:
        self.location = url.rstrip("/")
        self.attempts, self.timeout = attempts, timeout
        try:
            files, self._root = fsspec.core.url_to_fs(self.location)
        except (ImportError, ValueError) as error:
            raise DatasetError(
                f"{url}: cannot be opened: {error}; pip install headrace[remote] brings s3, gs "
                "and http"
            ) from None
        self._files: Any = files if files.async_impl else AsyncFileSystemWrapper(files)

    def read(self, ranges: Sequence[Range], *, fresh: bool = False) -> list[bytes | DatasetError]:
        found: list[bytes | DatasetError] = [b""] * len(ranges)
        waiting = list(range(len(ranges)))
        begun = time.monotonic()
        for attempt in range(self.attempts):
            results = sync(get_loop(), self._fetch, [ranges[i] for i in waiting])
            failed: list[tuple[int, Exception]] = []
            for i, result in zip(waiting, results, strict=True):
                if isinstance(result, bytes | DatasetError):
                    found[i] = result
                else:
                    failed.append((i, result))
            if not failed:
                return found
            place, error = failed[0]
            self._wait_or_raise(attempt, ranges[place].name, error, begun)
            waiting = [i for i, _ in failed]
        raise AssertionError("the last attempt raises")

    def whole(self, name: str) -> bytes:
        size = self.size(name)
        if size is None:
            raise DatasetError(f"{self.location}/{name}: is not there")
        (data,) = self.read([Range(name, 0, size)])
        if isinstance(data, DatasetError):
            raise data
        return data

    def size(self, name: str) -> int | None:
        begun = time.monotonic()
        for attempt in range(self.attempts):
            try:
                size: int | None = sync(get_loop(), self._info, name)["size"]
                if size is None:
                    raise DatasetError(
                        f"{self.location}/{name}: the server does not tell its size, without "
                        "which it cannot be read by ranges; copy it to a folder"
                    )
                return size
            except DatasetError:
                raise
            except Exception as error:
                if _is_missing(error):
                    return None
                self._wait_or_raise(attempt, name, error, begun)
        raise AssertionError("the last attempt raises")

    async def _info(self, name: str) -> Any:
        return await asyncio.wait_for(self._files._info(self._path(name)), self.timeout)

    async def _fetch(self, ranges: list[Range]) -> list[Any]:
        """Of each range its bytes, the DatasetError that says they are not there, or the error
        after which it may be tried again."""
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(wanted: Range) -> bytes | DatasetError:
            name, start, stop = wanted
            async with gate:
                try:
                    coming = self._files._cat_file(self._path(name), start=start, end=stop)
                    data: bytes = await asyncio.wait_for(coming, self.timeout)
                except Exception as error:
                    if _is_missing(error):
                        return DatasetError(f"{self.location}/{name}: is not there")
                    if not _past_the_end(error):
                        raise
                    data = b""
            if len(data) > stop - start:
                raise _NoRangesError("the server does not answer requests for a range of bytes")
            if len(data) < stop - start:
                return DatasetError(
                    f"{self.location}/{name}: ends before byte {stop:,}, it is truncated"
                )
            return data

        return await asyncio.gather(*map(one, ranges), return_exceptions=True)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _wait_or_raise(self, attempt: int, name: str, error: Exception, begun: float) -> None:
        """Let time pass before the next attempt, if there is one and it may help."""
        reason = error.__cause__ if isinstance(error, FileNotFoundError) else None
        error = reason if isinstance(reason, Exception) else error
        if _is_final(error) or attempt + 1 == self.attempts:
            what = f"{type(error).__name__}: {error}".rstrip(": ")
            raise DatasetError(
                f"{self.location}/{name}: cannot be read; {attempt + 1} attempt(s) in "
                f"{time.monotonic() - begun:.0f} s failed ({what}); when it can, the same command "
                "goes on"
            ) from None
        time.sleep(FIRST_WAIT * 2**attempt * random.uniform(0.5, 1.5))


def _is_missing(error: Exception) -> bool:
    """Whether a server says that there is no such file. What fsspec calls a missing file of a web
    server may be any failure of it, the error's cause."""
    cause = error.__cause__
    of_the_web = type(cause).__module__.startswith("aiohttp")
    failed = isinstance(cause, OSError) or (
        of_the_web and getattr(cause, "status", 0) not in (404, 410)
    )
    return isinstance(error, FileNotFoundError) and not failed


def _is_final(error: BaseException) -> bool:
    """Whether it will be no different next time."""
    status = getattr(error, "status", 0)
    return isinstance(error, PermissionError | _NoRangesError) or status in (401, 403)


class _NoRangesError(Exception):
    """A server that answers a request for a range with the whole file."""


def _past_the_end(error: Exception) -> bool:
    """Whether a server says that a file is shorter than the range asked for."""
    words = f"{error!r} {error.__cause__!r}"
    return getattr(error, "status", 0) == 416 or "InvalidRange" in words or "satisfiable" in words
