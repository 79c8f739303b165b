"""Laws of the conditional random field, in float64 against all sequences of tags one by one."""

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.corpus.fields import bio_spans
from pipeline.models.layers.crf import CRF

LENGTHS = [5, 1, 3, 2, 5, 4]
C = 4


def crf(tags: int = C, allowed: Tensor | None = None) -> CRF:
    torch.manual_seed(0)
    layer = CRF(tags, allowed).double()
    for weight in layer.parameters():
        torch.nn.init.normal_(weight)
    return layer


def batch(tags: int = C, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Emissions, tags and lengths."""
    torch.manual_seed(1)
    shape = max(LENGTHS), len(LENGTHS)
    emissions = torch.randn(*shape, tags, dtype=torch.float64) * scale
    return emissions, torch.randint(0, tags, shape), torch.tensor(LENGTHS)


def worth(layer: CRF, emissions: Tensor, path: tuple[int, ...]) -> Tensor:
    """By the definition: emissions [n, C] of one row."""
    total = layer.start[path[0]] + layer.end[path[-1]]
    for t, tag in enumerate(path):
        total = total + emissions[t, tag]
    for before, after in pairwise(path):
        total = total + layer.transitions[before, after]
    return total


def keeps(path: tuple[int, ...], allowed: Tensor) -> bool:
    start, end = len(allowed) - 2, len(allowed) - 1
    steps = zip((start, *path), (*path, end), strict=True)
    return all(allowed[before, after] for before, after in steps)


def probabilities(layer: CRF, row: Tensor) -> dict[tuple[int, ...], Tensor]:
    """Of every sequence for the emissions [n, C]."""
    paths = list(product(range(row.shape[1]), repeat=len(row)))
    worths = torch.stack([worth(layer, row, path) for path in paths])
    return dict(zip(paths, worths.softmax(0), strict=True))


def test_the_loss_and_its_gradients_are_those_of_all_sequences() -> None:
    layer, (emissions, tags, lengths) = crf(), batch()
    emissions.requires_grad_()
    expected = torch.stack(
        [
            -probabilities(layer, emissions[:n, b])[tuple(tags[:n, b].tolist())].log()
            for b, n in enumerate(LENGTHS)
        ]
    )
    found = layer.nll(emissions, tags, lengths)
    assert (found - expected).abs().max() < 1e-12
    weights = torch.arange(1.0, len(LENGTHS) + 1)
    to = [emissions, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), to),
        torch.autograd.grad((expected * weights).sum(), to),
        strict=True,
    ):
        assert (a - b).abs().max() < 1e-12


def test_gradients_pass_the_numerical_check() -> None:
    layer, (emissions, tags, lengths) = crf(), batch()

    def loss(emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
        weights = {"transitions": transitions, "start": start, "end": end}
        for name, weight in weights.items():
            delattr(layer, name)
            setattr(layer, name, weight)
        return layer.nll(emissions, tags, lengths)

    leaves = [w.detach().clone() for w in (emissions, layer.transitions, layer.start, layer.end)]
    assert torch.autograd.gradcheck(loss, [leaf.requires_grad_() for leaf in leaves])


def test_marginals_are_those_of_all_sequences() -> None:
    layer, (emissions, _, lengths) = crf(), batch()
    found = layer.marginals(emissions, lengths)
    for b, n in enumerate(LENGTHS):
        expected = torch.zeros(n, C, dtype=torch.float64)
        for path, p in probabilities(layer, emissions[:n, b]).items():
            expected[range(n), path] += p.detach()
        assert (found[:n, b] - expected).abs().max() < 1e-12
        assert (found[n:, b] == 0).all()


@pytest.mark.parametrize("bound", [False, True])
def test_decoding_finds_the_best_sequence_of_those_allowed(bound: bool) -> None:
    names = ["O", "B-X", "I-X", "I-Y"]  # nothing leads to I-Y, whatever is emitted
    allowed = torch.from_numpy(bio_spans.allowed(names)) if bound else None
    layer, (emissions, _, lengths) = crf(allowed=allowed), batch(scale=2)
    emissions[..., 3] += 3
    found = layer.decode(emissions, lengths)
    assert found.dtype == torch.int64
    for b, n in enumerate(LENGTHS):
        odds = probabilities(layer, emissions[:n, b])
        best = max((p for p in odds if allowed is None or keeps(p, allowed)), key=odds.__getitem__)
        assert tuple(found[b, :n].tolist()) == best
        assert (found[b, n:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_decoding_never_breaks_a_rule(scheme: bio_spans.Scheme, scale: float, dtype: torch.dtype):
    prefixes = "BI" if scheme == "bio" else "BIES"
    names = ["O", *(f"{prefix}-{label}" for label in "XYZ" for prefix in prefixes)]
    layer = crf(len(names), torch.from_numpy(bio_spans.allowed(names))).float()
    lengths = torch.randint(1, 81, (64,), generator=torch.Generator().manual_seed(2))
    emissions = torch.randn(80, 64, len(names)).to(dtype) * scale
    for row, n in zip(layer.decode(emissions, lengths).tolist(), lengths.tolist(), strict=True):
        assert bio_spans.check([names[tag] for tag in row[:n]], scheme) == ""


def test_where_no_sequence_is_allowed_the_fewest_rules_are_broken() -> None:
    names = ["B-X", "E-X"]  # of an odd number of tokens
    allowed = torch.from_numpy(bio_spans.allowed(names))
    layer, (emissions, _, _) = crf(2, allowed), batch(2)
    lengths = torch.full((len(LENGTHS),), 5)
    for row in layer.decode(emissions, lengths).tolist():
        steps = zip([2, *row], [*row, 3], strict=True)
        assert sum(not allowed[before, after] for before, after in steps) == 1


def test_tags_that_break_a_rule_have_the_loss_they_have_without_it() -> None:
    names = ["O", "B-X", "I-X", "B-Y"]
    emissions, _, lengths = batch()
    tags = torch.full(emissions.shape[:2], 2)  # I-X at the start
    bound = crf(allowed=torch.from_numpy(bio_spans.allowed(names)))
    losses = bound.nll(emissions, tags, lengths)
    assert losses.isfinite().all()
    assert torch.equal(losses, crf().nll(emissions, tags, lengths))


@pytest.mark.parametrize("nothing", [float("nan"), float("inf"), 1e30])
def test_padding_does_not_matter_whatever_stands_there(nothing: float) -> None:
    allowed = torch.from_numpy(bio_spans.allowed(["O", "B-X", "I-X", "B-Y"]))
    layer, (emissions, tags, lengths) = crf(allowed=allowed), batch()
    past = torch.arange(max(LENGTHS) + 3)[:, None] >= lengths
    longer = functional.pad(emissions, (0, 0, 0, 0, 0, 3)).masked_fill(past[..., None], nothing)
    longer.requires_grad_()
    loss = layer.nll(longer, functional.pad(tags, (0, 0, 0, 3)).masked_fill(past, -100), lengths)
    to = [longer, *layer.parameters()]
    of_emissions, *gradients = torch.autograd.grad(loss.sum(), to)
    assert (of_emissions[past] == 0).all()
    best, odds = layer.decode(longer, lengths), layer.marginals(longer, lengths)
    alone_gradients = [torch.zeros_like(g) for g in gradients]
    for b, n in enumerate(LENGTHS):
        row, own = emissions[:n, b : b + 1], lengths[b : b + 1]
        alone = layer.nll(row, tags[:n, b : b + 1], own)
        assert (alone - loss[b]).abs().max() < 1e-12
        assert torch.equal(layer.decode(row, own)[0], best[b, :n])
        assert (layer.marginals(row, own)[:, 0] - odds[:n, b]).abs().max() < 1e-12
        for total, g in zip(
            alone_gradients, torch.autograd.grad(alone.sum(), list(layer.parameters())), strict=True
        ):
            total += g
    for g, h in zip(gradients, alone_gradients, strict=True):
        assert (g - h).abs().max() < 1e-12


def test_one_token_is_a_softmax_and_reaches_every_weight() -> None:
    layer, (emissions, tags, _) = crf(), batch()
    ones = torch.ones(len(LENGTHS), dtype=torch.int64)
    loss = layer.nll(emissions[:1], tags[:1], ones)
    scores = emissions[0] + layer.start + layer.end
    assert (loss - functional.cross_entropy(scores, tags[0], reduction="none")).abs().max() < 1e-12
    loss.sum().backward()
    assert torch.equal(layer.transitions.grad, torch.zeros(C, C, dtype=torch.float64))
    assert torch.equal(layer.decode(emissions[:1], ones)[:, 0], scores.argmax(-1))


def test_at_first_each_token_is_for_itself() -> None:
    emissions, tags, lengths = batch()
    each = functional.cross_entropy(emissions.flatten(0, 1), tags.flatten(), reduction="none")
    inside = torch.arange(max(LENGTHS))[:, None] < lengths
    loss = CRF(C).nll(emissions, tags, lengths)
    assert (loss - (each.view_as(tags) * inside).sum(0)).abs().max() < 1e-12


def test_autocast_changes_nothing() -> None:
    layer, (emissions, tags, lengths) = crf().float(), batch()
    emissions = emissions.bfloat16()
    plain = layer.nll(emissions.float(), tags, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.nll(emissions, tags, lengths), plain)
        assert layer.marginals(emissions, lengths).dtype == torch.float32
        assert layer.nll(emissions.double(), tags, lengths).dtype == torch.float64


def test_rules_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"allowed is torch.bool \[4, 4\]; for 4 tags it is"):
        CRF(4, torch.ones(4, 4, dtype=torch.bool))
