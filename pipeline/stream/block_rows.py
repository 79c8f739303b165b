"""Rows of several Arrow blocks, concatenated to one array per column.

Shapes: F items of a fixed-size list.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus.dataset.blocks import list_array, numpy_dtype, to_numpy, value_array
from pipeline.stream.index import Block
from pipeline.stream.rows import Ragged, Rows, scalar_dtype


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


def _concatenate_column(arrays: list[Any], padded_length: int) -> Ragged | NDArray[Any]:
    """Concatenate the arrays of one column, one array for each block."""
    if not pa.types.is_list(arrays[0].type):
        values = np.concatenate([to_numpy(array) for array in arrays])
        return values if values.ndim > 1 else values.astype(scalar_dtype(values.dtype))
    lengths = np.concatenate(
        [np.diff(np.asarray(array.offsets)) for array in arrays], dtype=np.int64
    )
    values = np.concatenate([to_numpy(array.values) for array in arrays])
    return Ragged.of(values, lengths, padded_length)
