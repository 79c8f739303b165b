"""Rows of several blocks in one piece of memory a column, to gather batches from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus.dataset.blocks import list_array, to_numpy, value_array
from pipeline.corpus.fields.base import Cell
from pipeline.stream.index import Block


@dataclass(frozen=True)
class Ragged:
    """Rows of unequal length in one array: row i is values[starts[i] :][: lengths[i]].

    `values` goes on past the last row for as many tokens as a row may be padded to.
    """

    values: NDArray[Any]
    """[tokens], or [tokens, F] where there are F figures for each."""
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]

    @classmethod
    def of(cls, values: NDArray[Any], lengths: NDArray[np.int64], longest: int = 0) -> "Ragged":
        """Rows that come one after the other and are padded to `longest`, or to the longest of
        them, at most."""
        room = max(longest, int(lengths.max(initial=0)))
        beyond = np.zeros((room, *values.shape[1:]), values.dtype)
        return cls(np.concatenate([values, beyond]), np.cumsum(lengths) - lengths, lengths)


Columns = Mapping[str, Ragged | NDArray[Any]]
"""The columns of some rows by name: Ragged where a row holds a list, else an array [rows]."""


@dataclass(frozen=True)
class Rows:
    """Some rows and what goes with each."""

    columns: Columns
    weights: NDArray[np.float32]
    """[rows] 1, or 0 for a row that was skipped."""
    keys: NDArray[np.int64]
    """[rows] what randomness on a row is keyed by."""

    @classmethod
    def of(cls, columns: Columns, count: int) -> "Rows":
        """Rows that all count, where nothing is random."""
        return cls(columns, np.ones(count, np.float32), np.zeros(count, np.int64))

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[rows] tokens of each, of the first ragged column."""
        return next(c.lengths for c in self.columns.values() if isinstance(c, Ragged))

    def take(self, order: NDArray[np.int64], keys: NDArray[np.int64]) -> "Rows":
        """The rows `order`, under new keys. Their tokens stay where they are."""
        columns = {
            name: Ragged(column.values, column.starts[order], column.lengths[order])
            if isinstance(column, Ragged)
            else column[order]
            for name, column in self.columns.items()
        }
        return Rows(columns, self.weights[order], keys)


def columns_of(schema: pa.Schema, rows: Sequence[Sequence[Cell]]) -> Columns:
    """Rows that are at hand, a cell a column."""
    found: dict[str, Ragged | NDArray[Any]] = {}
    for place, column in enumerate(schema):
        cells: list[Any] = [row[place] for row in rows]
        kind: Any = column.type
        if pa.types.is_list(kind):
            lengths = np.array([len(cell) for cell in cells], np.int64)
            none = _zeros(kind.value_type, 0)
            values = np.concatenate([none, *cells], dtype=none.dtype, casting="unsafe")
            found[column.name] = Ragged.of(values, lengths)
        elif pa.types.is_fixed_size_list(kind):
            found[column.name] = np.array([*cells], _of(kind)).reshape(-1, kind.list_size)
        else:
            found[column.name] = np.array(cells, np.int64)
    return found


def join(
    columns: pa.Schema,
    blocks: Sequence[Block],
    batches: Iterable[pa.RecordBatch | None],
    longest: int,
) -> Rows:
    """The rows of all blocks, one after the other, padded to at most `longest` tokens later.

    A batch that is None leaves zeros of weight 0. Tokens go to their place as each batch comes, so
    that the bytes that it was read from can go.
    """
    lengths = np.concatenate([block.lengths for block in blocks]).astype(np.int64)
    name, *others = columns.names
    kind: Any = columns.field(name).type
    values = _zeros(kind.value_type, int(lengths.sum()) + longest)
    weights = np.ones(len(lengths), np.float32)
    parts: list[pa.RecordBatch] = []
    row = token = 0
    for block, batch in zip(blocks, batches, strict=True):
        size = len(block.lengths)
        if batch is None:
            weights[row : row + size] = 0
            batch = _blank(columns, block.lengths)
        first: Any = batch.column(0)
        items = to_numpy(first.values)
        values[token : token + len(items)] = items
        token += len(items)
        row += size
        parts.append(batch.select(others))
    joined: dict[str, Ragged | NDArray[Any]] = {
        name: Ragged(values, np.cumsum(lengths) - lengths, lengths)
    }
    for other in others:
        joined[other] = _joined([part.column(other) for part in parts], longest)
    return Rows(joined, weights, np.zeros(len(lengths), np.int64))


def _blank(columns: pa.Schema, lengths: NDArray[np.uint16]) -> pa.RecordBatch:
    """Rows of these lengths, in all columns of lists, that hold zeros."""
    arrays: list[Any] = []
    for column in columns:
        kind: Any = column.type
        if pa.types.is_list(kind):
            arrays.append(list_array(kind, lengths, _zeros(kind.value_type, int(lengths.sum()))))
        else:
            arrays.append(value_array(kind, _zeros(kind, len(lengths))))
    return pa.record_batch(arrays, schema=columns)


def _zeros(kind: Any, count: int) -> NDArray[Any]:
    """[count] values of a type, or [count, F]."""
    shape = (count, kind.list_size) if pa.types.is_fixed_size_list(kind) else (count,)
    return np.zeros(shape, _of(kind))


def _of(kind: Any) -> Any:
    """The type of an array's items, or of those of its lists."""
    items: Any = kind.value_type if pa.types.is_fixed_size_list(kind) else kind
    return items.to_pandas_dtype()


def _joined(columns: list[Any], longest: int) -> Ragged | NDArray[Any]:
    if not pa.types.is_list(columns[0].type):
        values = np.concatenate([to_numpy(column) for column in columns])
        return values if values.ndim > 1 else values.astype(np.int64)
    lengths = np.concatenate(
        [np.diff(np.asarray(column.offsets)) for column in columns], dtype=np.int64
    )
    values = np.concatenate([to_numpy(column.values) for column in columns])
    return Ragged.of(values, lengths, longest)
