"""Dropout with masks that are computed from a key for each row, not from a generator's state.

The mask of a row depends on the row's key, which is computed from the seed, the epoch and the row,
and on the dropout's `site`, a number that is derived from the module's qualified name in the model.
The mask is therefore the same on every rank and in every batch, and a resumed run needs no saved
generator state.

Shapes: T tokens of the longest row, B rows, F features, H hidden units, D directions.
"""

from hashlib import blake2b

import torch
from torch import Tensor, nn

from pipeline.kernels import Zones

GOLDEN_GAMMA = -0x61C8864680B583EB
"""SplitMix64's increment 0x9E3779B97F4A7C15, as a signed 64-bit integer."""


def keyed_uniform(keys: Tensor, site: int, width: int) -> Tensor:
    """Return uniform numbers in [0, 1) [B, width], computed from keys [B] int64 by SplitMix64."""
    counters = torch.arange(1, width + 1, device=keys.device) + (site << 32)
    return _uniform(keys[:, None], counters)


def hash_texts(tokens: Tensor, lengths: Tensor) -> Tensor:
    """Hash texts to keys [B]; tokens [B, T], lengths [B].

    The key of a text depends on its own tokens only, not on its padding or on other texts.
    """
    positions = torch.arange(tokens.shape[1], device=tokens.device)
    hashes = _mix_bits((positions + 1) * GOLDEN_GAMMA + _mix_bits(tokens))
    return hashes.masked_fill(positions >= lengths[:, None], 0).sum(1)


def _uniform(keys: Tensor, counters: Tensor) -> Tensor:
    """Return a uniform number in [0, 1) for each pair of the broadcast keys and counters."""
    return _shift_right(_mix_bits(keys + counters * GOLDEN_GAMMA), 40).float() / 2**24


def _mix_bits(x: Tensor) -> Tensor:
    """Apply SplitMix64's finalizer, a bijection of int64 (with wraparound) that scatters bits."""
    x = (x ^ _shift_right(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift_right(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift_right(x, 31)


def _shift_right(x: Tensor, bits: int) -> Tensor:
    """Logical right shift; int64's own operator is arithmetic and keeps the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def site_of(name: str) -> int:
    """Return the site of a qualified name: an even number below 2^31 that scatters names."""
    return int.from_bytes(blake2b(name.encode(), digest_size=4).digest(), "little") & 0x7FFFFFFE


class KeyedDropout(nn.Module):
    """Base of the modules whose random numbers are computed from keys and from their site."""

    _site: int | None = None

    @property
    def site(self) -> int:
        """Raises RuntimeError before `assign_dropout_sites` has named the model's modules."""
        if self._site is None:
            raise RuntimeError("dropout has no site; call assign_dropout_sites(model) first")
        return self._site

    @site.setter
    def site(self, value: int) -> None:
        self._site = value


def assign_dropout_sites(model: nn.Module) -> None:
    """Give every keyed dropout of a model the site of its qualified name.

    Call it once on the complete model before training: a renamed module draws other masks. Raises
    ValueError if two names share a site, which renaming one of them resolves.
    """
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        if isinstance(module, KeyedDropout):
            module.site = site_of(name)
            if (other := names.setdefault(module.site, name)) != name:
                raise ValueError(f"the modules {other} and {name} have the same dropout site")


class LockedDropout(KeyedDropout):
    """Dropout with one feature mask per row, shared by all its tokens (Gal and Ghahramani 2016)."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """x [T, B, F] or [B, F]; keys [B]."""
        if not self.training or self.p == 0:
            return x
        kept = keyed_uniform(keys, self.site, x.shape[-1]) >= self.p  # [B, F]
        return x * (kept.to(x.dtype) / (1 - self.p))


class TokenDropout(KeyedDropout):
    """Zero whole embeddings of single tokens and scale up the others."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """x [T, B, F]; keys [B]."""
        if not self.training or self.p == 0:
            return x
        kept = keyed_uniform(keys, self.site, x.shape[0]).t() >= self.p  # [T, B]
        return x * (kept.to(x.dtype) / (1 - self.p))[..., None]


class TypeDropout(KeyedDropout):
    """Zero the embeddings of vocabulary entries, at all their positions in a row, and scale up the
    others (Gal and Ghahramani 2016). AWD-LSTM does the same with one draw for all rows of an
    update."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor, tokens: Tensor, keys: Tensor) -> Tensor:
        """x [T, B, F]; tokens [T, B]; keys [B]."""
        if not self.training or self.p == 0:
            return x
        kept = _uniform(keys, tokens + 1 + (self.site << 32)) >= self.p  # [T, B]
        return x * (kept.to(x.dtype) / (1 - self.p))[..., None]


class WeightDrop(KeyedDropout):
    """Dropout of recurrent weights (Merity et al. 2018), with one mask per update for all rows and
    tokens. `draw_weight_masks` selects the mask."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p, self.key = p, 0

    def forward(self, weight: Tensor) -> Tensor:
        """weight of any shape."""
        if not self.training or self.p == 0:
            return weight
        key = torch.full((1,), self.key, device=weight.device)  # no copy from the host
        kept = keyed_uniform(key, self.site, weight.numel()).view_as(weight) >= self.p
        return weight * (kept.to(weight.dtype) / (1 - self.p))


def draw_weight_masks(model: nn.Module, seed: int, step: int) -> None:
    """Select new masks in every `WeightDrop` of the model.

    A mask depends on the seed, the update and the module's site, so it is the same on every rank
    and after a resume.
    """
    for module in model.modules():
        if isinstance(module, WeightDrop):
            module.key = ((seed << 32) + step) % 2**63


class Zoneout(KeyedDropout):
    """Draws the units that keep their previous state at a token (Krueger et al. 2017).

    `h` is the probability for hidden states, `c` for LSTM's memory cells.
    """

    def __init__(self, h: float, c: float) -> None:
        super().__init__()
        self.h, self.c = h, c

    def forward(self, keys: Tensor, steps: int, units: int) -> Zones | None:
        """Return masks [T, B, D*H] for T = `steps` and D*H = `units`, or in evaluation the
        probabilities themselves; None if both are 0. keys [B]."""
        if not self.h and not self.c:
            return None
        shape = (steps, len(keys), units)
        if not self.training:
            return Zones(*(torch.full(shape, p, device=keys.device) for p in (self.h, self.c)))
        masks = []
        for offset, p in enumerate((self.h, self.c)):
            if not p:
                masks.append(torch.zeros(shape, device=keys.device))
                continue
            # Sites are even: the next number belongs to no other module.
            draws = keyed_uniform(keys, self.site + offset, steps * units)  # [B, T*D*H]
            masks.append((draws < p).float().view(len(keys), steps, units).transpose(0, 1))
        return Zones(*masks)
