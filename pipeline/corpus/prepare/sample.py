"""An even sample of texts in bounded memory, the same however the corpus is cut."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.storage.atomic import atomic_file

TEXT_CHARACTERS = 1 << 16  # of one text, so that none takes the sample for itself
FILE_ROWS = 1024  # of one record batch


class TextSample:
    """The texts that come first in a random order, as many as `budget` bytes take.

    The order of a text is a hash of it, so equal texts come once. What is kept is a prefix of the
    order: samples of parts of a corpus, added together, give the sample of the whole.
    """

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self._budget = budget
        self._limit = 1 << 64  # this and all that come after it are out
        self._heap: list[tuple[int, str, int]] = []  # (-order, text, bytes)
        self._orders: set[int] = set()

    def add(self, order: int, text: str) -> None:
        if order >= self._limit or order in self._orders:
            return
        text = text[:TEXT_CHARACTERS]
        size = len(text.encode())
        heapq.heappush(self._heap, (-order, text, size))
        self._orders.add(order)
        self.bytes += size
        while self.bytes > self._budget:
            negative, _, size = heapq.heappop(self._heap)
            self._limit = -negative
            self._orders.remove(self._limit)
            self.bytes -= size

    def __iter__(self) -> Iterator[tuple[int, str]]:
        """(order, text), first come first."""
        for negative, text, _ in sorted(self._heap, reverse=True):
            yield -negative, text

    def save(self, path: Path) -> None:
        columns: dict[str, Any] = {"order": pa.uint64(), "text": pa.large_string()}
        schema = pa.schema(columns)
        pairs = list(self)
        with atomic_file(path) as file, pa.ipc.new_stream(file, schema) as stream:
            for start in range(0, len(pairs), FILE_ROWS):
                rows = [{"order": o, "text": t} for o, t in pairs[start : start + FILE_ROWS]]
                stream.write_batch(pa.RecordBatch.from_pylist(rows, schema))

    def add_saved(self, path: Path) -> None:
        """Add what `save` wrote."""
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                for row in batch.to_pylist():
                    self.add(row["order"], row["text"])
