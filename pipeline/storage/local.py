"""Store for a local folder.

Ranges are read, not memory-mapped: mapped pages would count as memory of the process.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DatasetError
from pipeline.storage.base import Range


class LocalStore:
    """Read access to the files in a local folder."""

    def __init__(self, folder: Path) -> None:
        self.location = str(folder)
        self.folder = folder

    def read(self, ranges: Sequence[Range], *, fresh: bool = False) -> list[bytes | DatasetError]:
        """Read byte ranges, as `Store.read`.

        Each file is opened once. An OSError is returned in place of the bytes, as a DatasetError.
        """
        results: list[bytes | DatasetError] = [b""] * len(ranges)
        order = sorted(range(len(ranges)), key=lambda i: ranges[i])
        handle, opened = -1, ""
        try:
            for i in order:
                name, start, stop = ranges[i]
                try:
                    if opened != name:
                        if handle >= 0:
                            os.close(handle)
                        handle, opened = -1, ""
                        handle, opened = os.open(self.folder / name, os.O_RDONLY), name
                    results[i] = data = os.pread(handle, stop - start, start)
                except OSError as error:
                    results[i] = DatasetError(f"{self.folder / name}: {error.strerror}")
                else:
                    if len(data) < stop - start:
                        results[i] = DatasetError(
                            f"{self.folder / name}: ends before byte {stop:,}, the file is "
                            "truncated"
                        )
        finally:
            if handle >= 0:
                os.close(handle)
        return results

    def read_file(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise DatasetError(f"{self.folder / name}: {error.strerror}") from None

    def size(self, name: str) -> int | None:
        path = self.folder / name
        return path.stat().st_size if path.is_file() else None
