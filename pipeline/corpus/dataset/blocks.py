"""Rows as Arrow record batches: those of parts, and the blocks of shards.

A column is one of the task's fields (`columns.arrow` says of which type) or, where long texts are
split, what `fields.py` says of documents and their segments. The first is a list.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.corpus.field_spec import DOCUMENT, SEGMENT, SEGMENTS, FieldSpec
from pipeline.corpus.fields.base import Cell
from pipeline.corpus.fields.kinds import arrow_type

Array = npt.NDArray[Any]


def schema(
    fields: Sequence[FieldSpec], vocabularies: Mapping[str, int], *, segments: bool = False
) -> pa.Schema:
    """The columns of a block, whose rows may be `segments` of documents, given how many tokens each
    vocabulary has."""
    columns: dict[str, Any] = {
        field.name: arrow_type(field, vocabularies.get(field.vocabulary, 0)) for field in fields
    }
    if segments:
        columns |= {DOCUMENT: pa.int64(), SEGMENT: pa.int32(), SEGMENTS: pa.int32()}
    return pa.schema(columns)


def batch(columns: pa.Schema, rows: Sequence[Sequence[Cell]]) -> pa.RecordBatch:
    """Rows of a cell a column."""
    cells = zip(*rows, strict=True)
    arrays = [_of_cells(kind, list(some)) for kind, some in zip(columns.types, cells, strict=True)]
    return pa.record_batch(arrays, schema=columns)


def size(columns: pa.Schema, row: Sequence[Cell]) -> int:
    """About the bytes that a row takes."""
    total = 0
    for kind, cell in zip(columns.types, row, strict=True):
        items: Any = kind
        if pa.types.is_list(kind):
            items = kind.value_type
            total += 4  # its offset
        total += np.size(cell) * _item_bytes(items)
    return total


def _item_bytes(kind: Any) -> int:
    return int((kind.value_type if pa.types.is_fixed_size_list(kind) else kind).bit_width) // 8


def _of_cells(kind: Any, cells: Sequence[Any]) -> Any:
    if not pa.types.is_list(kind):
        return of_values(kind, np.array(cells))
    lengths = np.fromiter(map(len, cells), np.int32, len(cells))
    return of_lists(kind, lengths, np.concatenate(cells))


def of_lists(kind: Any, lengths: Array, values: Array) -> Any:
    """Lists of `lengths` items each, all items in `values`.

    Arrays are made from scratch, never sliced: Arrow would write what lies beyond a slice as
    padding, and the same rows would have other bytes.
    """
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    parts: Any = pa.array(offsets, pa.int32()), of_values(kind.value_type, values), kind
    return pa.ListArray.from_arrays(*parts)


def of_values(kind: Any, values: Array) -> Any:
    """Values [n], or [n, F] of a type that is a list of F."""
    if pa.types.is_fixed_size_list(kind):
        array: Any = pa.FixedSizeListArray
        return array.from_arrays(pa.array(np.ravel(values), kind.value_type), type=kind)
    return pa.array(values.astype(kind.to_pandas_dtype(), copy=False))


def to_numpy(column: Any) -> Array:
    """The values [n] of an array that is no list, or [n, F] of one whose items are lists of F."""
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray(column.flatten()).reshape(len(column), column.type.list_size)
    return np.asarray(column)


@dataclass(frozen=True)
class Slice:
    """Rows [start, stop) of a part."""

    path: Path
    start: int
    stop: int


def blocks(slices: Sequence[Slice], rows: int) -> Iterator[pa.RecordBatch]:
    """The rows of all slices, in batches of exactly `rows`; only the last may be shorter."""
    held: list[pa.Table] = []
    room = rows
    for piece in slices:
        with pa.memory_map(str(piece.path)) as file:
            table = pa.ipc.open_file(file).read_all().slice(piece.start, piece.stop - piece.start)
        while table.num_rows >= room:
            yield _joined([*held, table.slice(0, room)])
            table, held, room = table.slice(room), [], rows
        if table.num_rows:
            held.append(table)
            room -= table.num_rows
    if held:
        yield _joined(held)


def _joined(tables: list[pa.Table]) -> pa.RecordBatch:
    table = pa.concat_tables(tables)
    arrays = []
    for column in table.columns:
        whole: Any = pa.concat_arrays(column.chunks)
        if pa.types.is_list(whole.type):
            lengths = whole.value_lengths().to_numpy()
            arrays.append(of_lists(whole.type, lengths, to_numpy(whole.flatten())))
        else:
            arrays.append(of_values(whole.type, to_numpy(whole)))
    return pa.record_batch(arrays, schema=table.schema)


def to_bytes(block: pa.RecordBatch) -> pa.Buffer:
    """A block as an Arrow IPC stream, which is a member of a shard."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as stream:
        stream.write_batch(block)
    return sink.getvalue()
