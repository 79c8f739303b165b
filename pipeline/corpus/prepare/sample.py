"""A uniform sample of texts in bounded memory, independent of how the corpus is divided."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.storage.atomic import atomic_file

MAX_TEXT_CHARACTERS = 1 << 16
"""Longer texts are truncated, so that no text fills the sample."""
BATCH_ROWS = 1024
"""Rows of a record batch in the file."""


class TextSample:
    """The first texts in a random order, up to `budget` bytes.

    The order is by a hash of each text, so a repeated text is in the sample once. The sample is a
    prefix of the order, so merging the samples of a corpus's parts gives the sample of the corpus.
    """

    def __init__(self, budget: int) -> None:
        self.bytes = 0
        self._budget = budget
        self._limit = 1 << 64  # texts with this hash or a higher one are not in the sample
        self._heap: list[tuple[int, str, int, int]] = []  # (-sort_hash, text, bytes, example)
        self._hashes: set[int] = set()

    def add(self, sort_hash: int, text: str, example: int) -> None:
        """Add a text if it belongs to the sample; `sort_hash` is its 64-bit hash, and `example` the
        number of the example that it is in."""
        if sort_hash >= self._limit or sort_hash in self._hashes:
            return
        text = text[:MAX_TEXT_CHARACTERS]
        size = len(text.encode())
        heapq.heappush(self._heap, (-sort_hash, text, size, example))
        self._hashes.add(sort_hash)
        self.bytes += size
        while self.bytes > self._budget:
            negative, _, size, _ = heapq.heappop(self._heap)
            self._limit = -negative
            self._hashes.remove(self._limit)
            self.bytes -= size

    def __iter__(self) -> Iterator[tuple[int, str, int]]:
        """Yield (hash, text, number of the example) by ascending hash."""
        for negative, text, _, example in sorted(self._heap, reverse=True):
            yield -negative, text, example

    def save(self, path: Path) -> None:
        """Write the sample to an Arrow file."""
        columns: dict[str, Any] = {
            "order": pa.uint64(),
            "text": pa.large_string(),
            "example": pa.uint64(),
        }
        schema = pa.schema(columns)
        entries = list(self)
        with atomic_file(path) as file, pa.ipc.new_stream(file, schema) as stream:
            for start in range(0, len(entries), BATCH_ROWS):
                batch = entries[start : start + BATCH_ROWS]
                rows = [dict(zip(columns, entry, strict=True)) for entry in batch]
                stream.write_batch(pa.RecordBatch.from_pylist(rows, schema))

    def add_saved(self, path: Path, first_example: int) -> None:
        """Add the texts of a sample that `save` wrote, given the number of its first example in the
        corpus."""
        with pa.memory_map(str(path)) as file, pa.ipc.open_stream(file) as stream:
            for batch in stream:
                for row in batch.to_pylist():
                    self.add(row["order"], row["text"], first_example + row["example"])
