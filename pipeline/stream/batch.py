"""Rows to tensors.

Legend: B rows of a batch, T tokens of its longest row.
"""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.stream.rows import Ragged, Rows


@dataclass
class RecurrentState:
    """Recurrent state of a stream's rows, kept from one update to the next.

    The stream owns it and saves it in checkpoints; the task reads it and replaces it. Empty before
    the first update.
    """

    tensors: list[Tensor] = field(default_factory=list)
    """[B, H] each, in an order that only the task knows."""


@dataclass(frozen=True)
class Batch:
    """What one rank works on at once."""

    columns: dict[str, Tensor]
    """Lists as [B, T] padded with 0, single values as [B]; whole numbers as int64, but bytes, such
    as pixels, as uint8."""
    lengths: Tensor
    """[B] int64, tokens of each row, at least 1."""
    weights: Tensor
    """[B] float32: 1, or 0 for a row that only fills up the shape or was skipped."""
    keys: Tensor
    """[B] int64: what randomness on a row (dropout) is keyed by, the same on any rank."""
    recurrent_state: RecurrentState | None = None
    """State that continues in the next batch of the same rows; None: each row starts from zeros."""

    def to(self, device: torch.device) -> "Batch":
        if device.type == "cpu":
            return self

        def move(x: Tensor) -> Tensor:
            return x.pin_memory().to(device, non_blocking=True)

        columns = {name: move(x) for name, x in self.columns.items()}
        return replace(
            self,
            columns=columns,
            lengths=move(self.lengths),
            weights=move(self.weights),
            keys=move(self.keys),
        )


def collate(rows: Rows, own: slice, *, size: int, length: int) -> Batch:
    """Make a batch of the rows `own` [b <= size], padded to [size, length].

    The first ragged column is the one whose lengths the plan knows; others of the same lengths are
    padded alike, and those of their own to the longest row of this batch.
    """
    columns: dict[str, Tensor] = {}
    lengths: NDArray[np.int64] | None = None
    for name, column in rows.columns.items():
        if isinstance(column, Ragged):
            of_row = column.lengths[own]
            alike = lengths is None or np.array_equal(of_row, lengths)
            width = length if alike else int(of_row.max(initial=0))
            columns[name] = _filled(_pad(column, own, width), size, 0)
            lengths = of_row if lengths is None else lengths
        else:
            columns[name] = _filled(column[own], size, 0)
    assert lengths is not None
    return Batch(
        columns,
        lengths=_filled(lengths, size, 1),
        weights=_filled(rows.weights[own], size, 0),
        keys=_filled(rows.keys[own], size, 0),
    )


def _pad(column: Ragged, own: slice, width: int) -> NDArray[Any]:
    """Rows as [b, width] or, of a column with figures for each token, [b, width, F]; 0 past their
    lengths.

    Each row is taken together with what follows it, as one item of `width` tokens, which costs a
    copy of memory a row and no loop; what is not its own is zeroed after.
    """
    values, starts, lengths = column.values, column.starts[own], column.lengths[own]
    shape, step = (len(starts), width, *values.shape[1:]), values.strides[0]
    if not width or not len(starts):
        return np.zeros(shape, _wide(values))
    overlapping: NDArray[Any] = np.ndarray(
        (len(values) - width + 1,), np.dtype((np.void, width * step)), values.data, strides=(step,)
    )
    padded = overlapping[starts].view(values.dtype).reshape(shape)
    valid = np.arange(width, dtype=np.int32) < lengths.astype(np.int32)[:, None]
    if values.dtype.kind == "f":  # in which 0 times infinity would not be 0
        padded[~valid] = 0
    else:
        padded *= valid.reshape(valid.shape + (1,) * (padded.ndim - 2))
    return padded.astype(_wide(values), copy=False)


def _wide(values: NDArray[Any]) -> np.dtype[Any]:
    as_it_is = values.dtype.kind == "f" or values.dtype == np.uint8
    return values.dtype if as_it_is else np.dtype(np.int64)


def _filled(array: NDArray[Any], size: int, value: int) -> Tensor:
    """The rows of an array, and as many of `value` as are missing."""
    if missing := size - len(array):
        array = np.concatenate([array, np.full((missing, *array.shape[1:]), value, array.dtype)])
    return torch.from_numpy(array)
