"""Rows of several blocks in one piece of memory a column, to gather batches from."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
    def of(cls, values: NDArray[Any], lengths: NDArray[np.int64]) -> "Ragged":
        """Rows that come one after the other and are padded to the longest of them at most."""
        beyond = np.zeros((int(lengths.max(initial=0)), *values.shape[1:]), values.dtype)
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
    values = np.zeros(int(lengths.sum()) + longest, kind.value_type.to_pandas_dtype())
    weights = np.ones(len(lengths), np.float32)
    parts: list[pa.RecordBatch] = []
    row = token = 0
    for block, batch in zip(blocks, batches, strict=True):
        size = len(block.lengths)
        if batch is None:
            weights[row : row + size] = 0
            batch = _blank(columns, block.lengths)
        tokens: Any = batch.column(0)
        values[token : token + len(tokens.values)] = tokens.values
        token += len(tokens.values)
        row += size
        parts.append(batch.select(others))
    joined: dict[str, Ragged | NDArray[Any]] = {
        name: Ragged(values, np.cumsum(lengths) - lengths, lengths)
    }
    for other in others:
        joined[other] = _joined([part.column(other) for part in parts])
    return Rows(joined, weights, np.zeros(len(lengths), np.int64))


def _blank(columns: pa.Schema, lengths: NDArray[np.uint16]) -> pa.RecordBatch:
    """Rows of these lengths that hold nothing: token 0, label 0, empty lists."""
    arrays: list[Any] = []
    for i, column in enumerate(columns):
        kind: Any = column.type
        if pa.types.is_list(kind):
            of_row = lengths if i == 0 else np.zeros_like(lengths)
            offsets = np.concatenate([[0], np.cumsum(of_row, dtype=np.int32)]).astype(np.int32)
            values = np.zeros(int(offsets[-1]), kind.value_type.to_pandas_dtype())
            pieces: Any = pa.array(offsets), pa.array(values)
            arrays.append(pa.ListArray.from_arrays(*pieces))
        else:
            arrays.append(pa.array(np.zeros(len(lengths), kind.to_pandas_dtype())))
    return pa.record_batch(arrays, schema=columns)


def _joined(columns: list[Any]) -> Ragged | NDArray[np.int64]:
    if not pa.types.is_list(columns[0].type):
        return np.concatenate([np.asarray(column) for column in columns], dtype=np.int64)
    lengths = np.concatenate(
        [np.diff(np.asarray(column.offsets)) for column in columns], dtype=np.int64
    )
    return Ragged.of(np.concatenate([np.asarray(column.values) for column in columns]), lengths)
