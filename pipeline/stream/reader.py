"""Reads blocks of rows from shards at the offsets in the index, and verifies them.

Only Arrow record batches are decoded; nothing that is read is executed.
"""

import logging
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpus.dataset.blocks import schema
from pipeline.corpus.dataset.manifest import INDEX, Manifest
from pipeline.errors import DatasetError
from pipeline.storage.base import Range, Store
from pipeline.stream.index import Block, Index

BLOCKS_PER_READ = 64
"""Blocks whose undecoded bytes are in memory at the same time."""

logger = logging.getLogger(__name__)


class Reader:
    """Reads the blocks of one split of a dataset.

    A damaged or missing block raises DatasetError. With `skip_damaged` it is skipped instead, with
    one warning per block.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        store: Store | None = None,
        shards: Store | None = None,
        skip_damaged: bool = False,
    ) -> None:
        """`store` defaults to the manifest's store. `shards`, which may be a cache, defaults to
        `store` and is used for the shards but not for the index."""
        store = store or manifest.store
        self.index = Index(store, f"{split}/{INDEX}", manifest.splits[split])
        self.schema = schema(
            manifest.fields, manifest.vocabularies, manifest.names, segments=manifest.segments
        )
        self._shard_store = shards or store
        self._shards = [
            Range(f"{split}/{shard.name}", 0, shard.bytes)
            for shard in manifest.splits[split].shards
        ]
        self._skip_damaged = skip_damaged
        self._logged: set[int] = set()

    def blocks(self, blocks: Sequence[Block]) -> Iterator[pa.RecordBatch | None]:
        """Yield the rows of each block, or None for a damaged block that is skipped."""
        for start in range(0, len(blocks), BLOCKS_PER_READ):
            group = blocks[start : start + BLOCKS_PER_READ]
            for block, data in zip(group, self._read(group), strict=True):
                try:
                    yield self._decode(block, data)
                except DatasetError as error:
                    if not self._skip_damaged:
                        raise DatasetError(
                            f"{error}; copy the shard again, prepare the dataset again, or set "
                            "stream.on_corrupt=skip"
                        ) from None
                    if block.number not in self._logged:
                        self._logged.add(block.number)
                        logger.warning("%s; its %d rows are skipped", error, len(block.lengths))
                    yield None

    def _read(self, blocks: Sequence[Block], *, fresh: bool = False) -> list[bytes | DatasetError]:
        ranges = [
            Range(self._shard_name(block), block.offset, block.offset + block.bytes)
            for block in blocks
        ]
        return self._shard_store.read(ranges, fresh=fresh)

    def _decode(self, block: Block, data: bytes | DatasetError) -> pa.RecordBatch:
        """Return the rows in a block's bytes. Raises DatasetError if they contradict the index."""
        if isinstance(data, DatasetError) or zlib.crc32(data) != block.crc32:
            (data,) = self._read([block], fresh=True)  # a cached copy may be damaged
        if isinstance(data, DatasetError):
            raise self._damaged(block, f"cannot be read ({data})")
        if (checksum := zlib.crc32(data)) != block.crc32:
            raise self._damaged(
                block, f"has checksum {checksum:08x}, but the index has {block.crc32:08x}"
            )
        try:
            rows = pa.ipc.open_stream(data).read_next_batch()
            rows.validate()
        except (pa.ArrowException, StopIteration) as error:
            raise self._damaged(block, f"is not an Arrow record batch ({error})") from None
        if not rows.schema.equals(self.schema) or any(c.null_count for c in rows.columns):
            raise self._damaged(block, "does not have the columns of the dataset")
        tokens: Any = rows.column(0)
        offsets = np.concatenate([[0], np.cumsum(block.lengths, dtype=np.int64)])
        if not np.array_equal(tokens.offsets, offsets) or len(tokens.values) != offsets[-1]:
            raise self._damaged(block, "does not have the row lengths in the index")
        return rows

    def _shard_name(self, block: Block) -> str:
        return self._shards[block.shard].name

    def _damaged(self, block: Block, problem: str) -> DatasetError:
        return DatasetError(
            f"{self._shard_store.location}/{self._shard_name(block)}: block {block.number} at byte "
            f"{block.offset} {problem}; the shard is damaged or belongs to another dataset"
        )
