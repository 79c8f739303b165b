"""Collates rows into padded tensors.

Shapes: B rows of a batch, T tokens of its longest row, F features of a token.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.corpus.field_spec import WEIGHT
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
    """One rank's rows of a batch, as tensors."""

    columns: dict[str, Tensor]
    """Lists as [B, T] or [B, T, F], padded with 0; single values as [B]. Integers are int64, except
    bytes, such as pixels, which are uint8. Floats keep their type."""
    lengths: Tensor
    """[B] int64, tokens of each row, at least 1."""
    weights: Tensor
    """[B] float32: 1, or 0 for a padding row or a skipped row. In training, the weight of the row
    in the loss if `corpus.weight` is set."""
    keys: Tensor
    """[B] int64: seed of each row's randomness (dropout), the same on any rank."""
    recurrent_state: RecurrentState | None = None
    """State that continues in the next batch of the same rows; None: each row starts from zeros."""

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Apply a function to every tensor except the recurrent state."""
        columns = {name: function(x) for name, x in self.columns.items()}
        lengths, weights, keys = map(function, (self.lengths, self.weights, self.keys))
        return replace(self, columns=columns, lengths=lengths, weights=weights, keys=keys)

    def weighted(self) -> "Batch":
        """Return the batch with the row weights of `corpus.weight`, if it has them."""
        if WEIGHT not in self.columns:
            return self
        return replace(self, weights=self.weights * self.columns[WEIGHT].float())

    def select(self, rows: Tensor) -> "Batch":
        """Return some rows, given their indices or a mask; without a recurrent state."""
        return replace(self.map(lambda x: x[rows]), recurrent_state=None)

    def to(self, device: torch.device) -> "Batch":
        """Move a batch; from pinned memory to a GPU without waiting for work queued there.

        A copy to the CPU is complete on return.
        """
        return self.map(lambda x: x.to(device, non_blocking=device.type != "cpu"))


def collate(rows: Rows, row_slice: slice, *, size: int, length: int) -> Batch:
    """Collate the b <= `size` rows in `row_slice` into a batch of [size, length].

    Ragged columns with the same lengths as the first one, whose lengths the plan knows, are padded
    to `length`. Other ragged columns are padded to the longest of their own rows in this batch.
    """
    columns: dict[str, Tensor] = {}
    lengths: NDArray[np.int64] | None = None
    for name, column in rows.columns.items():
        if isinstance(column, Ragged):
            column_lengths = column.lengths[row_slice]
            has_plan_lengths = lengths is None or np.array_equal(column_lengths, lengths)
            width = length if has_plan_lengths else int(column_lengths.max(initial=0))
            columns[name] = _add_padding_rows(_pad(column, row_slice, width), size, 0)
            lengths = column_lengths if lengths is None else lengths
        else:
            columns[name] = _add_padding_rows(column[row_slice], size, 0)
    assert lengths is not None
    return Batch(
        columns,
        lengths=_add_padding_rows(lengths, size, 1),
        weights=_add_padding_rows(rows.weights[row_slice], size, 0),
        keys=_add_padding_rows(rows.keys[row_slice], size, 0),
    )


def _pad(column: Ragged, row_slice: slice, width: int) -> NDArray[Any]:
    """Return rows as [b, width], or [b, width, F] if tokens have features, 0 past their lengths.

    Each row is gathered as one item of `width` tokens, including tokens of the rows behind it,
    which are zeroed afterwards. This is one memory copy per row and no Python loop.
    """
    values, starts, lengths = column.values, column.starts[row_slice], column.lengths[row_slice]
    shape, token_bytes = (len(starts), width, *values.shape[1:]), values.strides[0]
    if not width or not len(starts):
        return np.zeros(shape, _tensor_dtype(values))
    overlapping: NDArray[Any] = np.ndarray(
        (len(values) - width + 1,),
        np.dtype((np.void, width * token_bytes)),
        values.data,
        strides=(token_bytes,),
    )
    padded = overlapping[starts].view(values.dtype).reshape(shape)
    valid = np.arange(width, dtype=np.int32) < lengths.astype(np.int32)[:, None]
    if values.dtype.kind == "f":  # 0 times infinity would not be 0
        padded[~valid] = 0
    else:
        padded *= valid.reshape(valid.shape + (1,) * (padded.ndim - 2))
    return padded.astype(_tensor_dtype(values), copy=False)


def _tensor_dtype(values: NDArray[Any]) -> np.dtype[Any]:
    keeps_dtype = values.dtype.kind == "f" or values.dtype == np.uint8
    return values.dtype if keeps_dtype else np.dtype(np.int64)


def _add_padding_rows(array: NDArray[Any], size: int, value: int) -> Tensor:
    """Append rows of `value` up to `size` rows and return a tensor."""
    if missing := size - len(array):
        array = np.concatenate([array, np.full((missing, *array.shape[1:]), value, array.dtype)])
    return torch.from_numpy(array)
