"""Index of a split: the location of each block and the lengths of its rows, read on demand."""

import io
from dataclasses import dataclass, field

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pipeline.corpus.dataset.index import Records, checksums, record_dtype
from pipeline.corpus.dataset.manifest import Split
from pipeline.errors import DatasetError
from pipeline.storage.base import Range, Store


@dataclass(frozen=True)
class Block:
    """A block's record in the index."""

    number: int
    first_row: int
    """Row number in the split of the block's first row."""
    shard: int
    offset: int
    bytes: int
    crc32: int
    lengths: NDArray[np.uint16] = field(repr=False)
    """[rows] tokens of each row."""


MAX_HEADER_BYTES = 4096
"""Upper bound on the size of an index file's header."""
MAX_IN_MEMORY_BYTES = 16_000_000
"""An index up to this size is read once and kept in memory."""


class Index:
    """Reads the blocks of a split and the lengths of their rows.

    Every block has `rows_per_block` rows; only the last may be shorter. Row `i` of the split is
    row `i % rows_per_block` of block `i // rows_per_block`. `corpus.dataset.index.record_dtype`
    describes the file format. Raises DatasetError if the index is missing, damaged or of another
    size than the split.
    """

    def __init__(self, store: Store, name: str, split: Split) -> None:
        self.rows, self.tokens, self.max_length = split.rows, split.tokens, split.max_length
        self._store, self._name, self._salt = store, name, split.salt
        self.place = f"{store.location}/{name}"
        """Path or URL of the index, for messages."""
        self._header_bytes, self.blocks, self.rows_per_block = self._read_header()
        self._record = record_dtype(self.rows_per_block)
        self._in_memory: bytes | None = None
        if self.blocks * self._record.itemsize <= MAX_IN_MEMORY_BYTES:
            self._in_memory = store.read_file(name)[self._header_bytes :]
        if (expected := -(-self.rows // self.rows_per_block)) != self.blocks:
            raise self._error(
                f"has {self.blocks:,} blocks, but {self.rows:,} rows make {expected:,}"
            )

    def read(self, numbers: NDArray[np.int64]) -> list[Block]:
        """Return the blocks `numbers`. Raises DatasetError if a record fails its checksum."""
        records = self._read_records(numbers)
        return [
            Block(
                number,
                first_row=number * self.rows_per_block,
                shard=int(entry["shard"]),
                offset=int(entry["offset"]),
                bytes=int(entry["bytes"]),
                crc32=int(entry["crc32"]),
                lengths=entry["lengths"][: entry["rows"]],
            )
            for number, entry in zip(numbers.tolist(), records, strict=True)
        ]

    def _read_records(self, blocks: NDArray[np.int64]) -> Records:
        size = self._record.itemsize
        if self._in_memory is None:
            starts = (self._header_bytes + blocks * size).tolist()
            results = self._store.read([Range(self._name, s, s + size) for s in starts])
        else:
            results = [self._in_memory[b * size : (b + 1) * size] for b in blocks.tolist()]
        for result in results:
            if isinstance(result, DatasetError):
                raise result
        records = np.frombuffer(b"".join(results), self._record)  # type: ignore[arg-type]
        computed = checksums(records, self._salt, blocks.tolist())
        damaged = np.flatnonzero(records["record_crc32"] != computed)
        if len(damaged):
            i = int(damaged[0])
            raise self._error(
                f"the record of block {blocks[i]} has checksum {computed[i]:08x}, but the checksum "
                f"stored in it is {records['record_crc32'][i]:08x}: it is damaged or belongs to "
                "another dataset"
            )
        return records

    def _read_header(self) -> tuple[int, int, int]:
        """Return the header's bytes, the number of blocks and the rows per block."""
        size = self._store.size(self._name)
        if size is None:
            raise self._error("is missing")
        (header,) = self._store.read([Range(self._name, 0, min(size, MAX_HEADER_BYTES))])
        if isinstance(header, DatasetError):
            raise header
        file = io.BytesIO(header)
        try:
            npy.read_magic(file)
            shape, _, dtype = npy.read_array_header_1_0(file)
            (blocks,), rows = shape, dtype["lengths"].shape[0]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self._error(f"is not a readable index ({error})") from None
        if dtype != record_dtype(rows):
            raise self._error("has records of another format")
        if size != (expected := file.tell() + blocks * dtype.itemsize):
            raise self._error(f"has {size:,} bytes, but {blocks:,} blocks take {expected:,}")
        return file.tell(), blocks, rows

    def _error(self, problem: str) -> DatasetError:
        return DatasetError(f"{self.place}: {problem}; copy it again, or prepare the dataset again")


def sample_lengths(index: Index, max_blocks: int) -> NDArray[np.int64]:
    """Return the lengths of the rows in at most `max_blocks` blocks, spread evenly over a split."""
    numbers = np.linspace(0, index.blocks - 1, min(index.blocks, max_blocks)).astype(np.int64)
    return np.concatenate([block.lengths for block in index.read(numbers)]).astype(np.int64)
