"""Rows of several blocks, concatenated to one array per column, from which batches are gathered.

Shapes: F features of a token.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus.dataset.blocks import list_array, numpy_dtype, to_numpy, value_array
from pipeline.corpus.fields.base import Cell
from pipeline.stream.index import Block


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length in one array: row i is values[starts[i] :][: lengths[i]].

    `values` extends past the last row by the number of tokens that a row may be padded to.
    """

    values: NDArray[Any]
    """[tokens], or [tokens, F] if each token has F features."""
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(
        cls, values: NDArray[Any], lengths: NDArray[np.int64], padded_length: int = 0
    ) -> "Ragged":
        """Build from consecutive rows.

        `values` gets room to pad a row to `padded_length` tokens, or to the length of the longest
        row if that is larger.
        """
        max_width = max(padded_length, int(lengths.max(initial=0)))
        tail = np.zeros((max_width, *values.shape[1:]), values.dtype)
        return cls(np.concatenate([values, tail]), np.cumsum(lengths) - lengths, lengths)


Columns = Mapping[str, Ragged | NDArray[Any]]
"""Columns by name: Ragged if a row holds a list, otherwise an array [rows]."""


@dataclass(frozen=True)
class Rows:
    """Columns of rows, with a weight and a key for each row."""

    columns: Columns
    weights: NDArray[np.float32]
    """[rows] 1, or 0 for a skipped row."""
    keys: NDArray[np.int64]
    """[rows] seed of each row's randomness."""

    @classmethod
    def of(cls, columns: Columns, count: int) -> "Rows":
        """Build rows of weight 1, for use without randomness."""
        return cls(columns, np.ones(count, np.float32), np.zeros(count, np.int64))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[rows] tokens of each row in the first ragged column."""
        return next(c.lengths for c in self.columns.values() if isinstance(c, Ragged))

    def take(self, order: NDArray[np.int64], keys: NDArray[np.int64]) -> "Rows":
        """Return the rows at `order`, with new keys.

        The values of ragged columns are shared, not copied.
        """
        columns = {
            name: Ragged(column.values, column.starts[order], column.lengths[order])
            if isinstance(column, Ragged)
            else column[order]
            for name, column in self.columns.items()
        }
        return Rows(columns, self.weights[order], keys)


def columns_of(schema: pa.Schema, rows: Sequence[Sequence[Cell]]) -> Columns:
    """Convert rows in memory, each with one cell per column of the schema, to columns."""
    columns: dict[str, Ragged | NDArray[Any]] = {}
    for i, field in enumerate(schema):
        cells: list[Any] = [row[i] for row in rows]
        arrow_type: Any = field.type
        if pa.types.is_list(arrow_type):
            lengths = np.array([len(cell) for cell in cells], np.int64)
            empty = _zeros(arrow_type.value_type, 0)
            values = np.concatenate([empty, *cells], dtype=empty.dtype, casting="unsafe")
            columns[field.name] = Ragged.of(values, lengths)
        elif pa.types.is_fixed_size_list(arrow_type):
            array = np.array([*cells], _numpy_dtype(arrow_type))
            columns[field.name] = array.reshape(-1, arrow_type.list_size)
        else:
            columns[field.name] = np.array(cells, _scalar_dtype(_numpy_dtype(arrow_type)))
    return columns


def concatenate_blocks(
    schema: pa.Schema,
    blocks: Sequence[Block],
    record_batches: Iterable[pa.RecordBatch | None],
    padded_length: int,
) -> Rows:
    """Concatenate the rows of all blocks, with room to pad a row to `padded_length` tokens.

    There is one record batch per block; None becomes rows of zeros with weight 0. The first column
    is copied as each record batch arrives, so that the bytes it was read from can be freed.
    """
    lengths = np.concatenate([block.lengths for block in blocks]).astype(np.int64)
    first_name, *other_names = schema.names
    first_type: Any = schema.field(first_name).type
    values = _zeros(first_type.value_type, int(lengths.sum()) + padded_length)
    weights = np.ones(len(lengths), np.float32)
    other_batches: list[pa.RecordBatch] = []
    row = token = 0
    for block, batch in zip(blocks, record_batches, strict=True):
        size = len(block.lengths)
        if batch is None:
            weights[row : row + size] = 0
            batch = _zero_batch(schema, block.lengths)
        first_column: Any = batch.column(0)
        block_values = to_numpy(first_column.values)
        values[token : token + len(block_values)] = block_values
        token += len(block_values)
        row += size
        other_batches.append(batch.select(other_names))
    columns: dict[str, Ragged | NDArray[Any]] = {
        first_name: Ragged(values, np.cumsum(lengths) - lengths, lengths)
    }
    for name in other_names:
        arrays = [batch.column(name) for batch in other_batches]
        columns[name] = _concatenate_column(arrays, padded_length)
    return Rows(columns, weights, np.zeros(len(lengths), np.int64))


def _zero_batch(schema: pa.Schema, lengths: NDArray[np.uint16]) -> pa.RecordBatch:
    """Return rows of zeros that have these lengths in all list columns."""
    arrays: list[Any] = []
    for field in schema:
        arrow_type: Any = field.type
        if pa.types.is_list(arrow_type):
            values = _zeros(arrow_type.value_type, int(lengths.sum()))
            arrays.append(list_array(arrow_type, lengths, values))
        else:
            arrays.append(value_array(arrow_type, _zeros(arrow_type, len(lengths))))
    return pa.record_batch(arrays, schema=schema)


def _zeros(arrow_type: Any, count: int) -> NDArray[Any]:
    """Return [count] zeros of a type, or [count, F] for fixed-size lists of F items."""
    is_fixed_size_list = pa.types.is_fixed_size_list(arrow_type)
    shape = (count, arrow_type.list_size) if is_fixed_size_list else (count,)
    return np.zeros(shape, _numpy_dtype(arrow_type))


def _numpy_dtype(arrow_type: Any) -> Any:
    """Return the NumPy dtype of an Arrow type, or of its items if it is a fixed-size list."""
    is_fixed_size_list = pa.types.is_fixed_size_list(arrow_type)
    item_type: Any = arrow_type.value_type if is_fixed_size_list else arrow_type
    return numpy_dtype(item_type)


def _scalar_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a column with one number per row: int64, or its own for floats."""
    return dtype if dtype.kind == "f" else np.dtype(np.int64)


def _concatenate_column(arrays: list[Any], padded_length: int) -> Ragged | NDArray[Any]:
    """Concatenate the arrays of one column, one array for each block."""
    if not pa.types.is_list(arrays[0].type):
        values = np.concatenate([to_numpy(array) for array in arrays])
        return values if values.ndim > 1 else values.astype(_scalar_dtype(values.dtype))
    lengths = np.concatenate(
        [np.diff(np.asarray(array.offsets)) for array in arrays], dtype=np.int64
    )
    values = np.concatenate([to_numpy(array.values) for array in arrays])
    return Ragged.of(values, lengths, padded_length)
