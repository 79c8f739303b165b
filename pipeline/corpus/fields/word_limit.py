"""The limit on the number of words of a row, for fields with an item per word."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.fields.base import Cells
from pipeline.corpus.settings import TextSettings


def limit_length(cell: NDArray[Any], settings: TextSettings) -> Cells:
    """Truncate, split or drop a cell of more than `max_tokens` items, as `TextEncoder` does."""
    max_tokens = settings.max_tokens
    if len(cell) <= max_tokens:
        return Cells([cell])
    if settings.overflow == "drop":
        return Cells([], True)
    if settings.overflow == "split":
        return Cells(list(np.array_split(cell, -(-len(cell) // max_tokens))), True)
    head = {"start": max_tokens, "both": max_tokens // 2, "end": 0}[settings.truncation_side]
    return Cells([np.concatenate([cell[:head], cell[len(cell) - max_tokens + head :]])], True)
