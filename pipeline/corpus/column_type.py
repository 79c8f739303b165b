"""Types of stored columns, described without Arrow, which prediction does not import."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike


@dataclass(frozen=True)
class ColumnType:
    """How the values of a field are stored: a number per row, or a list of items.

    >>> ColumnType("uint16", is_list=True)
    ColumnType(dtype=dtype('uint16'), is_list=True, width=0)
    """

    dtype: np.dtype[Any]
    """NumPy type of the numbers; any name of one may be given."""
    is_list: bool = False
    """Whether a value has one item per token of the row, or per item of the value."""
    width: int = 0
    """Numbers per item, which is then a vector of fixed size; 0: an item is one number."""

    def __init__(self, dtype: DTypeLike, *, is_list: bool = False, width: int = 0) -> None:
        for name, value in (("dtype", np.dtype(dtype)), ("is_list", is_list), ("width", width)):
            object.__setattr__(self, name, value)


def token_list(vocabulary: int) -> ColumnType:
    """Return the type of a list of token ids, given the size of the vocabulary."""
    return ColumnType("uint16" if token_id_bytes(vocabulary) == 2 else "uint32", is_list=True)


def token_id_bytes(vocabulary: int) -> int:
    """Return the bytes per stored token id, given the size of the vocabulary."""
    return 2 if vocabulary <= 1 << 16 else 4


def vector_list(dtype: DTypeLike, width: int) -> ColumnType:
    """Return the type of a list of vectors of `width` numbers."""
    return ColumnType(dtype, is_list=True, width=max(width, 1))
