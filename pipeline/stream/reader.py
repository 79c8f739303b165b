"""Blocks of rows out of tar shards: memory-mapped, checked, nothing but Arrow ever decoded."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus.dataset import Manifest
from pipeline.errors import DatasetError
from pipeline.stream.index import Index


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length in one array: row i is values[offsets[i] : offsets[i + 1]]."""

    values: NDArray[Any]
    offsets: NDArray[np.int64]

    def lengths(self) -> NDArray[np.int64]:
        return np.diff(self.offsets)


Columns = Mapping[str, Ragged | NDArray[Any]]
"""The columns of some rows by name: Ragged where a row holds a list, else an array [rows]."""


class Reader:
    """The blocks of one split."""

    def __init__(self, manifest: Manifest, split: str) -> None:
        self.index = Index(manifest.path / split / "index.arrow")
        self._paths = [manifest.path / split / s.name for s in manifest.splits[split].shards]
        self._maps: dict[int, pa.Buffer] = {}

    def block(self, number: int) -> pa.RecordBatch:
        """One block, without a copy. Raises DatasetError if it is not what the index says."""
        index = self.index
        shard, offset = int(index.shard[number]), int(index.offset[number])
        path = self._paths[shard]
        if shard not in self._maps:
            try:
                self._maps[shard] = pa.memory_map(str(path)).read_buffer()
            except OSError as error:
                raise DatasetError(f"{path}: cannot be read ({error}); prepare anew") from None
        data = self._maps[shard].slice(offset, int(index.bytes[number]))
        found, expected = zlib.crc32(data), int(index.crc32[number])
        if found != expected:
            raise DatasetError(
                f"{path}: block {number} at byte {offset} has checksum {found:08x}, the index says "
                f"{expected:08x}; the shard is damaged or another's: prepare the corpus again"
            )
        batch = pa.ipc.open_stream(data).read_next_batch()
        if not np.array_equal(np.diff(_ragged(batch.column(0)).offsets), index.lengths(number)):
            raise DatasetError(
                f"{path}: block {number} does not hold the rows its index says; prepare anew"
            )
        return batch

    def blocks(self, numbers: NDArray[np.int64]) -> Columns:
        """The rows of several blocks, one after the other."""
        batches = [self.block(int(number)) for number in numbers]
        return {
            name: _join([batch.column(i) for batch in batches])
            for i, name in enumerate(batches[0].schema.names)
        }


def _ragged(column: Any) -> Ragged:
    return Ragged(np.asarray(column.values), np.asarray(column.offsets).astype(np.int64))


def _join(columns: list[Any]) -> Ragged | NDArray[Any]:
    if not pa.types.is_list(columns[0].type):
        return np.concatenate([np.asarray(column) for column in columns])
    parts = [_ragged(column) for column in columns]
    lengths = np.concatenate([part.lengths() for part in parts])
    return Ragged(
        np.concatenate([part.values for part in parts]), np.concatenate([[0], np.cumsum(lengths)])
    )
