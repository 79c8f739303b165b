"""Keyed dropout masks: their statistics, and their independence of batch and padding."""

from typing import TypeVar

import pytest
import torch
from torch import nn

from pipeline.models.dropout import (
    LockedDropout,
    TokenDropout,
    WeightDrop,
    Zoneout,
    assign_dropout_sites,
    draw_weight_masks,
    hash_texts,
    keyed_uniform,
    site_of,
)

M = TypeVar("M", bound=nn.Module)

GOLDEN = [
    [12097922, 2678640, 7444225],
    [5927942, 6922359, 1528051],
    [14595229, 7607380, 16325758],
    [4581875, 5070986, 11201395],
]
KEYS = torch.randint(-(2**63), 2**63 - 1, (400,), generator=torch.Generator().manual_seed(0))


def with_site(module: M) -> M:
    assign_dropout_sites(module)
    return module


def test_keyed_numbers_are_uniform_and_uncorrelated() -> None:
    u = keyed_uniform(KEYS, 3, 256).double()
    assert 0 <= u.min()
    assert u.max() < 1
    counts = torch.histc(u, 16, 0, 1)
    expected = u.numel() / 16
    assert ((counts - expected) ** 2 / expected).sum() < 38  # chi-squared, 15 dof: p = 0.001
    other = keyed_uniform(KEYS, 4, 256).double()
    for a, b in ((u, other), (u[:-1], u[1:]), (u[:, :-1], u[:, 1:])):
        assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) < 0.02


def test_text_hash_is_unique_and_ignores_padding() -> None:
    texts = torch.tensor([[5, 6, 7], [5, 7, 6], [6, 5, 7], [5, 6, 0], [5, 6, 7], [7, 0, 0]])
    lengths = torch.tensor([3, 3, 3, 2, 2, 1])
    keys = hash_texts(texts, lengths)
    assert keys[3] == keys[4]
    assert len(keys.unique()) == 5
    assert torch.equal(hash_texts(texts[3:, :2], lengths[3:]), keys[3:])


def test_keyed_numbers_match_golden_values() -> None:
    """A resumed run must draw the same masks as the version that wrote its checkpoint."""
    actual = keyed_uniform(torch.tensor([0, 1, -5, 2**62]), 7, 3) * 2**24
    assert actual.long().tolist() == GOLDEN


def test_locked_mask_depends_on_the_row_only() -> None:
    x, drop = torch.ones(5, 400, 32), with_site(LockedDropout(0.4))
    y = drop(x, KEYS)
    assert torch.equal(y[0], y[4])  # locked over time
    assert torch.equal(y[:, 7:9], drop(x[:, 7:9], KEYS[7:9]))  # whatever else is in the batch
    assert abs(y.mean() - 1) < 0.03
    assert sorted(y.unique().tolist()) == [0.0, torch.tensor(1 / 0.6).item()]
    assert torch.equal(drop.eval()(x, KEYS), x)


def test_token_dropout_zeroes_whole_tokens() -> None:
    x, drop = torch.ones(50, 400, 8), with_site(TokenDropout(0.25))
    y = drop(x, KEYS)
    assert torch.equal(y.amax(-1), y.amin(-1))
    assert abs((y == 0).float().mean() - 0.25) < 0.02
    assert torch.equal(y[:9, :3], drop(x[:9, :3], KEYS[:3]))  # padding does not change the masks


def test_weight_masks_depend_on_seed_update_and_site() -> None:
    net = with_site(nn.ModuleList([WeightDrop(0.4), WeightDrop(0.4)]))

    def masks(seed: int, step: int) -> list[torch.Tensor]:
        draw_weight_masks(net, seed, step)
        return [drop(torch.ones(50, 40)) for drop in net]

    first, second = masks(1, 7)
    assert not torch.equal(first, second)
    assert torch.equal(first, masks(1, 7)[0])
    assert not torch.equal(first, masks(1, 8)[0])
    assert not torch.equal(first, masks(2, 7)[0])
    assert abs(first.mean() - 1) < 0.05
    assert masks(2**63 - 1, 2**40)[0].any()
    assert torch.equal(net.eval()[0](torch.ones(3, 3)), torch.ones(3, 3))


def test_zoneout_masks_depend_on_the_row_only() -> None:
    zoneout = with_site(Zoneout(0.3, 0.1))
    short, long = zoneout(KEYS, 5, 12), zoneout(KEYS[3:9], 8, 12)
    assert short is not None
    assert long is not None
    assert torch.equal(short.h[:, 3:9], long.h[:5])
    assert abs(short.h.mean() - 0.3) < 0.02
    assert abs(short.c.mean() - 0.1) < 0.02
    means = zoneout.eval()(KEYS, 5, 12)
    assert means is not None
    assert means.h.unique().tolist() == [torch.tensor(0.3).item()]
    assert Zoneout(0, 0)(KEYS, 5, 12) is None


def test_sites_derive_from_qualified_names() -> None:
    """The name alone decides: another module changes no masks but its own."""
    small = with_site(nn.ModuleDict({"a": LockedDropout(0.5)}))
    large = with_site(nn.ModuleDict({"b": LockedDropout(0.5), "a": LockedDropout(0.5)}))
    assert small["a"].site == large["a"].site == site_of("a")
    assert large["b"].site != large["a"].site
    assert (site_of("a"), site_of("stack.dropouts.0")) == (1431053258, 370233906)


def test_dropout_without_a_site_is_refused_in_training() -> None:
    drop = LockedDropout(0.5)
    x = torch.ones(2, 3, 4)
    assert drop.eval()(x, KEYS[:3]) is x
    with pytest.raises(RuntimeError, match="assign_dropout_sites"):
        drop.train()(x, KEYS[:3])
