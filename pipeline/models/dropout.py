"""Dropout whose masks are a function of the row, not of a generator's state.

A row's mask depends on the row's key (seed, epoch, row) and on the place in the network, so it is
the same on whichever rank and in whichever batch the row is worked on, and a resumed run needs no
saved state.

Legend: T tokens, B rows, F features.
"""

import torch
from torch import Tensor, nn

from pipeline.kernels import Zones


def keyed_uniform(keys: Tensor, site: int, width: int) -> Tensor:
    """Uniform numbers in [0, 1) [B, width], from keys [B] int64, by SplitMix64's finalizer."""
    counters = torch.arange(1, width + 1, device=keys.device) + (site << 32)
    return _uniform(keys[:, None], counters)


def keys_of(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Keys [B] of texts, tokens [B, T] of lengths [B]: a function of each text alone."""
    places = torch.arange(tokens.shape[1], device=tokens.device)
    mixed = _mixed((places + 1) * -0x61C8864680B583EB + _mixed(tokens))
    return mixed.masked_fill(places >= lengths[:, None], 0).sum(1)


def _uniform(keys: Tensor, counters: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), by key and counter, of the shape that both broadcast to."""
    return _shift(_mixed(keys + counters * -0x61C8864680B583EB), 40).float() / 2**24


def _mixed(x: Tensor) -> Tensor:
    """SplitMix64's finalizer of int64, which wraps around: a bijection that scatters bits."""
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


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


class TypeDropout(nn.Module):
    """Zero the embedding of a token wherever it stands in a row, and scale up the others (Gal and
    Ghahramani 2016; AWD-LSTM does, with one draw for all rows of an update)."""

    def __init__(self, p: float, site: int) -> None:
        super().__init__()
        self.p, self.site = p, site

    def forward(self, x: Tensor, tokens: Tensor, keys: Tensor) -> Tensor:
        """x [T, B, F]; tokens [T, B], keys [B]."""
        if not self.training or self.p == 0:
            return x
        kept = _uniform(keys, tokens + 1 + (self.site << 32)) >= self.p  # [T, B]
        return x * (kept.to(x.dtype) / (1 - self.p))[..., None]


class WeightDrop(nn.Module):
    """Dropout of recurrent weights (Merity et al. 2018), one mask an update for all rows and
    tokens; `draw_weight_masks` says which."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.key, self.site = p, 0, 0

    def forward(self, weight: Tensor) -> Tensor:
        """A weight of any shape."""
        if not self.training or self.p == 0:
            return weight
        key = torch.tensor([self.key], device=weight.device)
        kept = keyed_uniform(key, self.site, weight.numel()).view_as(weight) >= self.p
        return weight * (kept.to(weight.dtype) / (1 - self.p))


def draw_weight_masks(model: nn.Module, seed: int, step: int) -> None:
    """Key the masks of all `WeightDrop` by the seed, the update and the place in the network: the
    same on every rank, and again after a resume."""
    drops = (module for module in model.modules() if isinstance(module, WeightDrop))
    for site, drop in enumerate(drops):
        drop.key, drop.site = ((seed << 32) + step) % 2**63, site


class Zoneout(nn.Module):
    """Units that keep their last state at a token (Krueger et al. 2017); `h` and `c` are the shares
    of hidden states and, of LSTM, of memories that do."""

    def __init__(self, h: float, c: float, site: int) -> None:
        super().__init__()
        self.h, self.c, self.site = h, c, site

    def forward(self, keys: Tensor, steps: int, units: int) -> Zones | None:
        """keys [B] -> of T = `steps` tokens and D*H = `units`, or None where nothing is kept."""
        if not self.h and not self.c:
            return None
        shape = (steps, len(keys), units)
        if not self.training:
            return Zones(*(torch.full(shape, p, device=keys.device) for p in (self.h, self.c)))
        masks = []
        for number, p in enumerate((self.h, self.c)):
            if not p:
                masks.append(torch.zeros(shape, device=keys.device))
                continue
            draws = keyed_uniform(keys, self.site + number, steps * units)  # [B, T*D*H]
            masks.append((draws < p).float().view(len(keys), steps, units).transpose(0, 1))
        return Zones(*masks)
