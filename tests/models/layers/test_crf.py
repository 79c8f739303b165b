"""The CRF equals a brute-force computation over all sequences of tags, in float64."""

from itertools import pairwise, product

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.corpus.fields import bio_spans
from pipeline.models.layers.crf import CRF

LENGTHS = [5, 1, 3, 2, 5, 4]
C = 4


def make_crf(tags: int = C, allowed: Tensor | None = None) -> CRF:
    """Return a CRF with random weights."""
    torch.manual_seed(0)
    layer = CRF(tags, allowed).double()
    for weight in layer.parameters():
        torch.nn.init.normal_(weight)
    return layer


def make_batch(tags: int = C, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
    """Return emissions, tags and lengths."""
    torch.manual_seed(1)
    shape = max(LENGTHS), len(LENGTHS)
    emissions = torch.randn(*shape, tags, dtype=torch.float64) * scale
    return emissions, torch.randint(0, tags, shape), torch.tensor(LENGTHS)


def score(layer: CRF, emissions: Tensor, path: tuple[int, ...]) -> Tensor:
    """Compute the score of one row's tags by its definition, from emissions [n, C]."""
    total = layer.start[path[0]] + layer.end[path[-1]]
    for t, tag in enumerate(path):
        total = total + emissions[t, tag]
    for before, after in pairwise(path):
        total = total + layer.transitions[before, after]
    return total


def is_allowed(path: tuple[int, ...], allowed: Tensor) -> bool:
    start, end = len(allowed) - 2, len(allowed) - 1
    steps = zip((start, *path), (*path, end), strict=True)
    return all(allowed[before, after] for before, after in steps)


def probabilities(layer: CRF, row: Tensor) -> dict[tuple[int, ...], Tensor]:
    """Return the probability of every sequence for one row's emissions [n, C]."""
    paths = list(product(range(row.shape[1]), repeat=len(row)))
    scores = torch.stack([score(layer, row, path) for path in paths])
    return dict(zip(paths, scores.softmax(0), strict=True))


def test_loss_and_gradients_equal_brute_force() -> None:
    layer, (emissions, tags, lengths) = make_crf(), make_batch()
    emissions.requires_grad_()
    expected = torch.stack(
        [
            -probabilities(layer, emissions[:n, b])[tuple(tags[:n, b].tolist())].log()
            for b, n in enumerate(LENGTHS)
        ]
    )
    actual = layer.nll(emissions, tags, lengths)
    assert (actual - expected).abs().max() < 1e-12
    weights = torch.arange(1.0, len(LENGTHS) + 1)
    inputs = [emissions, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad((actual * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        assert (a - b).abs().max() < 1e-12


def test_gradients_equal_finite_differences() -> None:
    layer, (emissions, tags, lengths) = make_crf(), make_batch()

    def loss(emissions: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
        weights = {"transitions": transitions, "start": start, "end": end}
        for name, weight in weights.items():
            delattr(layer, name)
            setattr(layer, name, weight)
        return layer.nll(emissions, tags, lengths)

    leaves = [w.detach().clone() for w in (emissions, layer.transitions, layer.start, layer.end)]
    assert torch.autograd.gradcheck(loss, [leaf.requires_grad_() for leaf in leaves])


def test_marginals_equal_brute_force() -> None:
    layer, (emissions, _, lengths) = make_crf(), make_batch()
    actual = layer.marginals(emissions, lengths)
    for b, n in enumerate(LENGTHS):
        expected = torch.zeros(n, C, dtype=torch.float64)
        for path, p in probabilities(layer, emissions[:n, b]).items():
            expected[range(n), path] += p.detach()
        assert (actual[:n, b] - expected).abs().max() < 1e-12
        assert (actual[n:, b] == 0).all()


@pytest.mark.parametrize("constrained", [False, True])
def test_decoding_finds_the_best_allowed_sequence(constrained: bool) -> None:
    names = ["O", "B-X", "I-X", "I-Y"]  # no tag may precede I-Y, which has high emissions
    allowed = torch.from_numpy(bio_spans.allowed(names)) if constrained else None
    layer, (emissions, _, lengths) = make_crf(allowed=allowed), make_batch(scale=2)
    emissions[..., 3] += 3
    decoded = layer.decode(emissions, lengths)
    assert decoded.dtype == torch.int64
    for b, n in enumerate(LENGTHS):
        probability = probabilities(layer, emissions[:n, b])
        candidates = (p for p in probability if allowed is None or is_allowed(p, allowed))
        best = max(candidates, key=probability.__getitem__)
        assert tuple(decoded[b, :n].tolist()) == best
        assert (decoded[b, n:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [0.01, 1.0, 1000.0])
@pytest.mark.parametrize("scheme", ["bio", "bioes"])
def test_decoding_never_breaks_a_rule(scheme: bio_spans.Scheme, scale: float, dtype: torch.dtype):
    prefixes = "BI" if scheme == "bio" else "BIES"
    names = ["O", *(f"{prefix}-{label}" for label in "XYZ" for prefix in prefixes)]
    layer = make_crf(len(names), torch.from_numpy(bio_spans.allowed(names))).float()
    lengths = torch.randint(1, 81, (64,), generator=torch.Generator().manual_seed(2))
    emissions = torch.randn(80, 64, len(names)).to(dtype) * scale
    for row, n in zip(layer.decode(emissions, lengths).tolist(), lengths.tolist(), strict=True):
        assert bio_spans.check([names[tag] for tag in row[:n]], scheme) == ""


def test_if_no_sequence_is_allowed_as_few_rules_as_possible_are_broken() -> None:
    names = ["B-X", "E-X"]  # an odd number of tokens breaks a rule
    allowed = torch.from_numpy(bio_spans.allowed(names))
    layer, (emissions, _, _) = make_crf(2, allowed), make_batch(2)
    lengths = torch.full((len(LENGTHS),), 5)
    for row in layer.decode(emissions, lengths).tolist():
        steps = zip([2, *row], [*row, 3], strict=True)
        assert sum(not allowed[before, after] for before, after in steps) == 1


def test_rules_do_not_change_the_loss_of_tags_that_break_them() -> None:
    names = ["O", "B-X", "I-X", "B-Y"]
    emissions, _, lengths = make_batch()
    tags = torch.full(emissions.shape[:2], 2)  # I-X at the start
    constrained = make_crf(allowed=torch.from_numpy(bio_spans.allowed(names)))
    losses = constrained.nll(emissions, tags, lengths)
    assert losses.isfinite().all()
    assert torch.equal(losses, make_crf().nll(emissions, tags, lengths))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_padding_has_no_effect_whatever_its_value(value: float) -> None:
    allowed = torch.from_numpy(bio_spans.allowed(["O", "B-X", "I-X", "B-Y"]))
    layer, (emissions, tags, lengths) = make_crf(allowed=allowed), make_batch()
    is_padding = torch.arange(max(LENGTHS) + 3)[:, None] >= lengths
    padded = functional.pad(emissions, (0, 0, 0, 0, 0, 3)).masked_fill(is_padding[..., None], value)
    padded.requires_grad_()
    loss = layer.nll(
        padded, functional.pad(tags, (0, 0, 0, 3)).masked_fill(is_padding, -100), lengths
    )
    inputs = [padded, *layer.parameters()]
    d_emissions, *gradients = torch.autograd.grad(loss.sum(), inputs)
    assert (d_emissions[is_padding] == 0).all()
    best, marginals = layer.decode(padded, lengths), layer.marginals(padded, lengths)
    alone_gradients = [torch.zeros_like(g) for g in gradients]
    for b, n in enumerate(LENGTHS):
        row, length = emissions[:n, b : b + 1], lengths[b : b + 1]
        alone = layer.nll(row, tags[:n, b : b + 1], length)
        assert (alone - loss[b]).abs().max() < 1e-12
        assert torch.equal(layer.decode(row, length)[0], best[b, :n])
        assert (layer.marginals(row, length)[:, 0] - marginals[:n, b]).abs().max() < 1e-12
        for total, g in zip(
            alone_gradients, torch.autograd.grad(alone.sum(), list(layer.parameters())), strict=True
        ):
            total += g
    for g, h in zip(gradients, alone_gradients, strict=True):
        assert (g - h).abs().max() < 1e-12


def test_one_token_is_a_softmax_and_all_weights_have_gradients() -> None:
    layer, (emissions, tags, _) = make_crf(), make_batch()
    ones = torch.ones(len(LENGTHS), dtype=torch.int64)
    loss = layer.nll(emissions[:1], tags[:1], ones)
    scores = emissions[0] + layer.start + layer.end
    assert (loss - functional.cross_entropy(scores, tags[0], reduction="none")).abs().max() < 1e-12
    loss.sum().backward()
    assert layer.transitions.grad is not None
    assert torch.equal(layer.transitions.grad, torch.zeros(C, C, dtype=torch.float64))
    assert torch.equal(layer.decode(emissions[:1], ones)[:, 0], scores.argmax(-1))


def test_the_initial_loss_is_the_sum_of_cross_entropies() -> None:
    emissions, tags, lengths = make_batch()
    losses = functional.cross_entropy(emissions.flatten(0, 1), tags.flatten(), reduction="none")
    inside = torch.arange(max(LENGTHS))[:, None] < lengths
    loss = CRF(C).nll(emissions, tags, lengths)
    assert (loss - (losses.view_as(tags) * inside).sum(0)).abs().max() < 1e-12


def test_autocast_changes_nothing() -> None:
    layer, (emissions, tags, lengths) = make_crf().float(), make_batch()
    emissions = emissions.bfloat16()
    expected = layer.nll(emissions.float(), tags, lengths)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.nll(emissions, tags, lengths), expected)
        assert layer.marginals(emissions, lengths).dtype == torch.float32
        assert layer.nll(emissions.double(), tags, lengths).dtype == torch.float64


def test_rules_of_the_wrong_shape_are_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"allowed is torch.bool \[4, 4\]; expected torch.bool \[6, 6\]: 4"
    ):
        CRF(4, torch.ones(4, 4, dtype=torch.bool))
