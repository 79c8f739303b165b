"""The index of a split: where each block lies and how long its rows are, read as it is asked."""

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
    """What the index says of a block."""

    number: int
    first_row: int
    """Its number in the split."""
    shard: int
    offset: int
    bytes: int
    crc32: int
    lengths: NDArray[np.uint16] = field(repr=False)
    """[rows] tokens of each row."""


HEADER = 4096
"""Bytes that hold the header of any index."""
HELD = 16_000_000
"""An index up to so many bytes is read once and held."""


class Index:
    """Blocks of a split and the lengths of their rows (see `corpus.dataset.index.record_dtype`).

    Every block has `rows_per_block` rows; only the last may be shorter. Row `i` of the split is
    row `i % rows_per_block` of block `i // rows_per_block`.
    """

    def __init__(self, store: Store, name: str, split: Split) -> None:
        self.rows, self.tokens, self.max_length = split.rows, split.tokens, split.max_length
        self._store, self._name, self._salt = store, name, split.salt
        self.place = f"{store.location}/{name}"
        """Where the index lies, for messages."""
        self._start, self.blocks, self.rows_per_block = self._header()
        self._record = record_dtype(self.rows_per_block)
        self._held: bytes | None = None
        if self.blocks * self._record.itemsize <= HELD:
            self._held = store.whole(name)[self._start :]
        if self.blocks != -(-self.rows // self.rows_per_block):
            raise self._wrong(f"has {self.blocks:,} blocks, not as many as {self.rows:,} rows take")

    def read(self, numbers: NDArray[np.int64]) -> list[Block]:
        """Some blocks. Raises DatasetError if a record is not what was written."""
        records = self._records(numbers)
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

    def _records(self, blocks: NDArray[np.int64]) -> Records:
        size = self._record.itemsize
        if self._held is None:
            starts = (self._start + blocks * size).tolist()
            data = self._store.read([Range(self._name, s, s + size) for s in starts])
        else:
            data = [self._held[b * size : (b + 1) * size] for b in blocks.tolist()]
        for found in data:
            if isinstance(found, DatasetError):
                raise found
        records = np.frombuffer(b"".join(data), self._record)  # type: ignore[arg-type]
        expected = checksums(records, self._salt, blocks.tolist())
        wrong = np.flatnonzero(records["record_crc32"] != expected)
        if len(wrong):
            at = int(wrong[0])
            raise self._wrong(
                f"the record of block {blocks[at]} has checksum "
                f"{expected[at]:08x} but says "
                f"{records['record_crc32'][at]:08x}; it is damaged or another dataset's"
            )
        return records

    def _header(self) -> tuple[int, int, int]:
        """Bytes of the header, blocks, rows a block."""
        size = self._store.size(self._name)
        if size is None:
            raise DatasetError(f"{self.place}: is missing; copy it again, or prepare anew")
        (head,) = self._store.read([Range(self._name, 0, min(size, HEADER))])
        if isinstance(head, DatasetError):
            raise head
        file = io.BytesIO(head)
        try:
            npy.read_magic(file)
            shape, _, found = npy.read_array_header_1_0(file)
            (blocks,), rows = shape, found["lengths"].shape[0]
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise self._wrong(f"is not a readable index ({error})") from None
        if found != record_dtype(rows):
            raise self._wrong("has records of another form")
        if size != file.tell() + blocks * found.itemsize:
            raise self._wrong(f"has {size:,} bytes, not as many as {blocks:,} blocks take")
        return file.tell(), blocks, rows

    def _wrong(self, what: str) -> DatasetError:
        return DatasetError(f"{self.place}: {what}; copy it again, or prepare anew")
