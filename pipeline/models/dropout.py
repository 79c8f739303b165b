"""Dropout whose masks are a function of the row, not of a generator's state.

A row's mask depends on the row's key (seed, epoch, row) and on the place in the network, so it is
the same on whichever rank and in whichever batch the row is worked on, and a resumed run needs no
saved state.

Legend: T tokens, B rows, F features.
"""

import torch
from torch import Tensor, nn


def keyed_uniform(keys: Tensor, site: int, width: int) -> Tensor:
    """Uniform numbers in [0, 1) [B, width], from keys [B] int64, by SplitMix64's finaliser."""
    counters = torch.arange(1, width + 1, device=keys.device) + (site << 32)
    x = keys[:, None] + counters * -0x61C8864680B583EB  # [B, width], int64 wraps around
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return _shift(x ^ _shift(x, 31), 40).float() / 2**24


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical shift to the right: int64's own keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


class LockedDropout(nn.Module):
    """One mask over the features of a row, the same at all its tokens (Gal and Ghahramani 2016)."""

    def __init__(self, p: float, site: int) -> None:
        super().__init__()
        self.p, self.site = p, site

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """x [T, B, F] or [B, F]; keys [B]."""
        if not self.training or self.p == 0:
            return x
        kept = keyed_uniform(keys, self.site, x.shape[-1]) >= self.p  # [B, F]
        return x * (kept.to(x.dtype) / (1 - self.p))


class TokenDropout(nn.Module):
    """Zero the embedding of single tokens, all features at once, and scale up the others."""

    def __init__(self, p: float, site: int) -> None:
        super().__init__()
        self.p, self.site = p, site

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """x [T, B, F]; keys [B]."""
        if not self.training or self.p == 0:
            return x
        kept = keyed_uniform(keys, self.site, x.shape[0]).t() >= self.p  # [T, B]
        return x * (kept.to(x.dtype) / (1 - self.p))[..., None]
