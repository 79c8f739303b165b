"""The packed index of a split, memory-mapped: where each block lies and how long its rows are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import DatasetError


class Index:
    """Blocks of a split and the lengths of their rows.

    Every block has `rows_per_block` rows; only the last may be shorter. Row `i` of the split is
    row `i % rows_per_block` of block `i // rows_per_block`.
    """

    def __init__(self, path: Path) -> None:
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            head = json.loads(table.schema.metadata[b"headrace"])
        except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{path}: not a readable index ({error}); delete the folder and prepare it again"
            ) from None
        self.rows: int = head["rows"]
        self.tokens: int = head["tokens"]
        self.max_length: int = head["max_length"]
        self.shard = _array(table, "shard")
        self.offset = _array(table, "offset")
        self.bytes = _array(table, "bytes")
        self.crc32 = _array(table, "crc32")
        self.block_rows = _array(table, "rows").astype(np.int64)
        self._chunks = [_values(chunk) for chunk in table.column("lengths").chunks]
        self._chunk_starts = np.cumsum([0, *(len(values) for values in self._chunks)])
        self.rows_per_block = int(self.block_rows[0]) if len(self.block_rows) else 1

    @property
    def blocks(self) -> int:
        return len(self.block_rows)

    def lengths(self, block: int) -> NDArray[np.uint16]:
        """Tokens of each row of a block, [rows], without a copy."""
        start = block * self.rows_per_block
        chunk = int(np.searchsorted(self._chunk_starts, start, side="right")) - 1
        start -= int(self._chunk_starts[chunk])
        return self._chunks[chunk][start : start + int(self.block_rows[block])]


def _array(table: pa.Table, column: str) -> NDArray[Any]:
    return np.asarray(table.column(column).combine_chunks().to_numpy(zero_copy_only=False))


def _values(lengths: Any) -> NDArray[np.uint16]:
    return np.asarray(lengths.flatten().to_numpy(zero_copy_only=True))
