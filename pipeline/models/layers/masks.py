"""Masks of padding.

Shapes: T tokens of the longest row, B rows, F features.
"""

import torch
from torch import Tensor


def valid(lengths: Tensor, steps: int) -> Tensor:
    """Return the mask [T, B] of tokens that are not padding, for lengths [B] and T = `steps`."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


def mean_over_steps(states: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean state of each row [B, F], for states [T, B, F] and lengths [B]."""
    mask = valid(lengths, len(states))[..., None]
    return (states * mask).sum(0, dtype=wide_dtype(states)) / lengths[:, None]


def wide_dtype(x: Tensor) -> torch.dtype:
    """Return the data type in which to accumulate: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)
