"""Arrow record batches of encoded rows: schemas, construction, and the blocks of shards.

Each column is a field of the task, stored in the Arrow type of its `ColumnType`. Where long texts
are split, the segment columns of `field_spec.py` follow. The first column is a list.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.field_spec import (
    DOCUMENT,
    NO_NAMES,
    SEGMENT,
    SEGMENTS,
    FieldSpec,
    column_types,
)
from pipeline.corpus.fields.base import Cell

Array = npt.NDArray[Any]
DTYPES: Mapping[Any, np.dtype[Any]] = {
    pa.from_numpy_dtype(dtype): dtype for dtype in map(np.dtype, "?bhiqBHIQefd")
}
"""NumPy types of numbers by Arrow type."""


def schema(
    fields: Sequence[FieldSpec],
    vocabularies: Mapping[str, int],
    names: Mapping[str, Sequence[str]] = NO_NAMES,
    *,
    segments: bool = False,
) -> pa.Schema:
    """Return the schema of a block, given the size of each vocabulary and each field's names.

    With `segments`, it includes the segment columns.
    """
    types = column_types(fields, vocabularies, names)
    columns: dict[str, Any] = {name: _arrow_type(stored) for name, stored in types.items()}
    if segments:
        columns |= {DOCUMENT: pa.int64(), SEGMENT: pa.int32(), SEGMENTS: pa.int32()}
    return pa.schema(columns)


def _arrow_type(stored: ColumnType) -> Any:
    kind: Any = pa.from_numpy_dtype(stored.dtype)
    if stored.width:
        kind = pa.list_(kind, stored.width)
    return pa.list_(kind) if stored.is_list else kind


def batch(columns: pa.Schema, rows: Sequence[Sequence[Cell]]) -> pa.RecordBatch:
    """Build a record batch from rows, which have one cell per column."""
    cells = [list(column) for column in zip(*rows, strict=True)]
    arrays = [_cell_array(kind, column) for kind, column in zip(columns.types, cells, strict=True)]
    return pa.record_batch(arrays, schema=columns)


def size(columns: pa.Schema, row: Sequence[Cell]) -> int:
    """Estimate the size of a row in bytes."""
    total = 0
    for kind, cell in zip(columns.types, row, strict=True):
        items: Any = kind
        if pa.types.is_list(kind):
            items = kind.value_type
            total += 4  # the list's offset
        total += np.size(cell) * _item_bytes(items)
    return total


def _item_bytes(kind: Any) -> int:
    return int((kind.value_type if pa.types.is_fixed_size_list(kind) else kind).bit_width) // 8


def _cell_array(kind: Any, cells: Sequence[Any]) -> Any:
    if not pa.types.is_list(kind):
        return value_array(kind, np.array(cells))
    lengths = np.fromiter(map(len, cells), np.int32, len(cells))
    return list_array(kind, lengths, np.concatenate(cells))


def list_array(kind: Any, lengths: Array, values: Array) -> Any:
    """Build an array of lists with the given lengths from the concatenated `values`.

    Arrays are always built from scratch, never sliced: Arrow would write the data beyond a slice as
    padding, so identical rows would not have identical bytes.
    """
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    parts: Any = pa.array(offsets, pa.int32()), value_array(kind.value_type, values), kind
    return pa.ListArray.from_arrays(*parts)


def value_array(kind: Any, values: Array) -> Any:
    """Build an array from values [n], or from [n, F] if the type is a list of fixed size F."""
    if pa.types.is_fixed_size_list(kind):
        array: Any = pa.FixedSizeListArray
        return array.from_arrays(pa.array(np.ravel(values), kind.value_type), type=kind)
    return pa.array(values.astype(numpy_dtype(kind), copy=False))


def numpy_dtype(kind: Any) -> np.dtype[Any]:
    """Return NumPy's type of a column of numbers. pyarrow's own method for it imports pandas."""
    return DTYPES[kind]


def to_numpy(column: Any) -> Array:
    """Return an array's values [n], or [n, F] if its type is a list of fixed size F."""
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    return np.asarray(column)


@dataclass(frozen=True)
class Slice:
    """Rows [start, stop) of an Arrow file of encoded rows."""

    path: Path
    start: int
    stop: int


def blocks(slices: Sequence[Slice], rows: int) -> Iterator[pa.RecordBatch]:
    """Yield the rows of all slices in batches of `rows` rows; only the last may be shorter."""
    pending: list[pa.Table] = []
    missing = rows  # to complete a batch
    for part in slices:
        with pa.memory_map(str(part.path)) as file:
            table = pa.ipc.open_file(file).read_all().slice(part.start, part.stop - part.start)
        while table.num_rows >= missing:
            yield _combine([*pending, table.slice(0, missing)])
            table, pending, missing = table.slice(missing), [], rows
        if table.num_rows:
            pending.append(table)
            missing -= table.num_rows
    if pending:
        yield _combine(pending)


def _combine(tables: list[pa.Table]) -> pa.RecordBatch:
    """Concatenate tables into one record batch with newly built arrays."""
    table = pa.concat_tables(tables)
    arrays = []
    for column in table.columns:
        array: Any = pa.concat_arrays(column.chunks)
        if pa.types.is_list(array.type):
            lengths = array.value_lengths().to_numpy()
            arrays.append(list_array(array.type, lengths, to_numpy(array.flatten())))
        else:
            arrays.append(value_array(array.type, to_numpy(array)))
    return pa.record_batch(arrays, schema=table.schema)


def to_bytes(block: pa.RecordBatch) -> pa.Buffer:
    """Serialize a block as an Arrow IPC stream, the content of a shard's member."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as stream:
        stream.write_batch(block)
    return sink.getvalue()
