"""Rows in memory as one array per column, from which batches are gathered.

Shapes: F features of a token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.fields.base import Cell


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


def columns_of(types: Mapping[str, ColumnType], rows: Sequence[Sequence[Cell]]) -> Columns:
    """Convert rows in memory, each with one cell per column type, to columns."""
    columns: dict[str, Ragged | NDArray[Any]] = {}
    for i, (name, stored) in enumerate(types.items()):
        cells: list[Any] = [row[i] for row in rows]
        if stored.is_list:
            lengths = np.array([len(cell) for cell in cells], np.int64)
            empty = np.zeros((0, stored.width) if stored.width else 0, stored.dtype)
            values = np.concatenate([empty, *cells], dtype=empty.dtype, casting="unsafe")
            columns[name] = Ragged.of(values, lengths)
        elif stored.width:
            columns[name] = np.array([*cells], stored.dtype).reshape(-1, stored.width)
        else:
            columns[name] = np.array(cells, scalar_dtype(stored.dtype))
    return columns


def scalar_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the type of a column with one number per row: int64, or its own for floats."""
    return dtype if dtype.kind == "f" else np.dtype(np.int64)
