"""Rows to tensors.

Legend: B rows of a batch, T tokens of its longest row.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.stream.reader import Columns, Ragged


@dataclass(frozen=True)
class Batch:
    """What one rank works on at once."""

    columns: dict[str, Tensor]
    """Lists as [B, T] padded with 0, single values as [B]; whole numbers as int64."""
    lengths: Tensor
    """[B] int64, tokens of each row, at least 1."""
    weights: Tensor
    """[B] float32: 1, or 0 for a row that only fills up the shape."""
    keys: Tensor
    """[B] int64: what randomness on a row (dropout) is keyed by, the same on any rank."""

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self

        def move(x: Tensor) -> Tensor:
            return x.pin_memory().to(device, non_blocking=True)

        columns = {name: move(x) for name, x in self.columns.items()}
        return Batch(columns, move(self.lengths), move(self.weights), move(self.keys))


def collate(
    rows: Columns,
    chosen: NDArray[np.int64],
    keys: NDArray[np.uint64],
    *,
    size: int,
    length: int,
) -> Batch:
    """Make a batch of the rows `chosen` [b <= size], padded to [size, length].

    The first ragged column is the one whose lengths the plan knows; others are padded to the
    longest row of this batch.
    """
    b = len(chosen)
    columns: dict[str, Tensor] = {}
    lengths: NDArray[np.int64] | None = None
    for name, column in rows.items():
        if isinstance(column, Ragged):
            starts = column.offsets[chosen]
            own = column.offsets[chosen + 1] - starts
            width = length if lengths is None else int(own.max(initial=1))
            columns[name] = torch.from_numpy(_pad(column.values, starts, own, size, width))
            lengths = own if lengths is None else lengths
        else:
            values = np.zeros((size, *column.shape[1:]), _wide(column))
            values[:b] = column[chosen]
            columns[name] = torch.from_numpy(values)
    assert lengths is not None
    return Batch(
        columns,
        lengths=torch.from_numpy(_filled(lengths, size, 1)),
        weights=torch.from_numpy(_filled(np.ones(b, np.float32), size, 0)),
        keys=torch.from_numpy(_filled(keys.astype(np.int64), size, 0)),
    )


def _pad(
    values: NDArray[Any],
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    size: int,
    width: int,
) -> NDArray[Any]:
    """Gather the rows out of `values` into [size, width]: one gather and one scatter, no loop."""
    padded = np.zeros((size, width, *values.shape[1:]), _wide(values))
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    source = np.repeat(starts - ends + lengths, lengths) + np.arange(total)
    padded[: len(lengths)][np.arange(width) < lengths[:, None]] = values[source]
    return padded


def _wide(values: NDArray[Any]) -> "np.dtype[Any]":
    return values.dtype if values.dtype.kind == "f" else np.dtype(np.int64)


def _filled(array: NDArray[Any], size: int, value: int) -> NDArray[Any]:
    full = np.full(size, value, array.dtype)
    full[: len(array)] = array
    return full
