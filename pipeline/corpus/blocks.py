"""Rows of tokens as Arrow record batches: those of parts, and the blocks of shards.

Columns, with the names that the task gave:
  tokens: list<uint16>, or list<uint32> for a vocabulary past 65,536; the ids of each row
  label: int32; absent if the task asks for none
and, where long texts are split, what `fields.py` says of documents and their segments:
  document: int64; segment and segments: int32
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.corpus.fields import DOCUMENT, SEGMENT, SEGMENTS, Field, text_and_label

Array = npt.NDArray[Any]


def schema(fields: tuple[Field, ...], vocab_size: int, *, segments: bool = False) -> pa.Schema:
    """The columns of a block, whose rows may be `segments` of documents."""
    text, label = text_and_label(fields)
    token: Any = pa.uint16() if token_bytes(vocab_size) == 2 else pa.uint32()
    columns: dict[str, Any] = {text.name: pa.list_(token)}
    if label:
        columns[label.name] = pa.int32()
    if segments:
        columns |= {DOCUMENT: pa.int64(), SEGMENT: pa.int32(), SEGMENTS: pa.int32()}
    return pa.schema(columns)


def token_bytes(vocab_size: int) -> int:
    return 2 if vocab_size <= 1 << 16 else 4


def batch(
    columns: pa.Schema, ids: Sequence[Sequence[int]], *others: Sequence[int]
) -> pa.RecordBatch:
    """Rows of tokens `ids` and of the values of the `other` columns."""
    token: Any = columns.field(0).type
    lengths = np.fromiter(map(len, ids), np.int32, len(ids))
    values = np.fromiter(
        chain.from_iterable(ids), token.value_type.to_pandas_dtype(), lengths.sum()
    )
    return _batch(columns, lengths, values, *map(np.asarray, others))


def _batch(columns: pa.Schema, lengths: Array, values: Array, *others: Array) -> pa.RecordBatch:
    """Rows of `lengths` tokens each, all tokens in `values`.

    Arrays are made from scratch, never sliced: Arrow would write what lies beyond a slice as
    padding, and the same rows would have other bytes.
    """
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    tokens = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(values))
    types = columns.types[1:]
    arrays = [tokens, *(pa.array(v, kind) for v, kind in zip(others, types, strict=True))]
    return pa.record_batch(arrays, schema=columns)


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
    tokens: Any = table.column(0)
    lengths, values = pc.list_value_length(tokens), pc.list_flatten(tokens)
    return _batch(
        table.schema, *(column.to_numpy() for column in (lengths, values, *table.columns[1:]))
    )


def to_bytes(block: pa.RecordBatch) -> pa.Buffer:
    """A block as an Arrow IPC stream, which is a member of a shard."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, block.schema) as stream:
        stream.write_batch(block)
    return sink.getvalue()
