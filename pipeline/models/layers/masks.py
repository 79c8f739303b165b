"""Masks of padding.

Shapes: T tokens of the longest row, B rows.
"""

import torch
from torch import Tensor


def valid(lengths: Tensor, steps: int) -> Tensor:
    """Return the mask [T, B] of tokens that are not padding, for lengths [B] and T = `steps`."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def wide_dtype(x: Tensor) -> torch.dtype:
    """Return the data type in which to accumulate: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)
