"""Blocks of rows out of shards: read by their place, checked, nothing but Arrow ever decoded."""

import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpus.dataset.blocks import schema
from pipeline.corpus.dataset.manifest import INDEX, Manifest
from pipeline.errors import DatasetError
from pipeline.storage.base import Range, Store
from pipeline.stream.index import Block, Index

AT_ONCE = 64
"""Blocks whose bytes are held beside the rows that were made of them."""


class Reader:
    """The blocks of one split of a dataset.

    With `report`, a block that is damaged or missing is told to it and left out; without, it is
    raised as DatasetError.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        store: Store | None = None,
        shards: Store | None = None,
        report: Callable[[str], None] | None = None,
    ) -> None:
        store = store or manifest.store
        self.index = Index(store, f"{split}/{INDEX}", manifest.splits[split])
        self.schema = schema(manifest.fields, manifest.vocabularies, segments=manifest.segments)
        self._store = shards or store
        self._shards = [
            Range(f"{split}/{shard.name}", 0, shard.bytes)
            for shard in manifest.splits[split].shards
        ]
        self._report = report
        self._reported: set[int] = set()

    def blocks(self, blocks: Sequence[Block]) -> Iterator[pa.RecordBatch | None]:
        """The rows of each block, None for one that is left out."""
        for start in range(0, len(blocks), AT_ONCE):
            some = blocks[start : start + AT_ONCE]
            for block, data in zip(some, self._read(some), strict=True):
                try:
                    yield self._rows(block, data)
                except DatasetError as error:
                    if self._report is None:
                        raise DatasetError(
                            f"{error}: copy it again or prepare anew, or set stream.on_corrupt=skip"
                        ) from None
                    if block.number not in self._reported:
                        self._reported.add(block.number)
                        self._report(f"{error}; its {len(block.lengths)} rows are skipped")
                    yield None

    def _read(self, blocks: Sequence[Block], *, fresh: bool = False) -> list[bytes | DatasetError]:
        ranges = [
            Range(self._name(block), block.offset, block.offset + block.bytes) for block in blocks
        ]
        return self._store.read(ranges, fresh=fresh)

    def _rows(self, block: Block, data: bytes | DatasetError) -> pa.RecordBatch:
        """The rows that a block's bytes hold, if they are what the index says."""
        if isinstance(data, DatasetError) or zlib.crc32(data) != block.crc32:
            (data,) = self._read([block], fresh=True)  # what is damaged may be what was kept of it
        if isinstance(data, DatasetError):
            raise self._damaged(block, f"cannot be read ({data})")
        if (found := zlib.crc32(data)) != block.crc32:
            raise self._damaged(
                block, f"has checksum {found:08x}, the index says {block.crc32:08x}"
            )
        try:
            rows = pa.ipc.open_stream(data).read_next_batch()
            rows.validate()
        except (pa.ArrowException, StopIteration) as error:
            raise self._damaged(block, f"is no Arrow record batch ({error})") from None
        if not rows.schema.equals(self.schema) or any(c.null_count for c in rows.columns):
            raise self._damaged(block, "does not have the columns of the dataset")
        tokens: Any = rows.column(0)
        offsets = np.concatenate([[0], np.cumsum(block.lengths, dtype=np.int64)])
        if not np.array_equal(tokens.offsets, offsets) or len(tokens.values) != offsets[-1]:
            raise self._damaged(block, "does not hold the rows that its index says")
        return rows

    def _name(self, block: Block) -> str:
        return self._shards[block.shard].name

    def _damaged(self, block: Block, what: str) -> DatasetError:
        return DatasetError(
            f"{self._store.location}/{self._name(block)}: block {block.number} at byte "
            f"{block.offset} {what}; the shard is damaged or another's"
        )
