"""Tagger: independence of padding, losses and decoding, in float64."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.layers.crf import CRF
from pipeline.models.tagger import Tagger
from tests.helpers.settings import model_settings

LENGTHS = [7, 1, 4, 9, 9]
WORD_BYTES = 6
TAGS = 5

every_variant = pytest.mark.parametrize(
    "options",
    [
        {},
        {"crf": False},
        {"characters": 0},
        {"characters": 0, "crf": False, "bidirectional": False},
        {"dropout": 0.4, "embedding_dropout": 0.3, "layer_norm": True, "skip": "highway"},
        {"cell": "gru", "native": False, "layers": 1},
        {"cell": "grid_lstm", "zoneout": 0.2},
        {"cell": "goru", "hidden": 8, "characters": 4},
    ],
    ids=str,
)


def tagger(**options: Any) -> Tagger:
    torch.manual_seed(0)
    settings = {"embedding": 4, "hidden": 6, "characters": 3} | options
    model = Tagger(model_settings(**settings), 40, TAGS)
    for weight in model.scorer.parameters():
        torch.nn.init.normal_(weight)
    return model.double()


def batch(width: int = max(LENGTHS), word_bytes: int = WORD_BYTES) -> tuple[Tensor, ...]:
    """Inputs of the tagger and tags, with rows padded to `width` and words to `word_bytes`."""
    torch.manual_seed(1)
    lengths = torch.tensor(LENGTHS)
    b, t = len(LENGTHS), max(LENGTHS)
    in_row = torch.arange(t) < lengths[:, None]
    in_word = torch.arange(WORD_BYTES) < torch.randint(1, WORD_BYTES + 1, (b, t, 1))
    words = torch.randint(0, 40, (b, t)) * in_row
    characters = torch.randint(1, 256, (b, t, WORD_BYTES)) * in_word * in_row[..., None]
    tags, keys = torch.randint(0, TAGS, (b, t)) * in_row, torch.randint(0, 2**62, (b,))
    padding = width - t
    characters = functional.pad(characters, (0, word_bytes - WORD_BYTES, 0, padding))
    return (
        functional.pad(words, (0, padding)),
        characters,
        lengths,
        keys,
        functional.pad(tags, (0, padding)),
    )


def single_rows() -> list[tuple[Tensor, ...]]:
    """The rows of `batch` one at a time, without padding."""
    words, characters, lengths, keys, tags = batch()
    return [
        (words[b : b + 1, :n], characters[b : b + 1, :n], lengths[b : b + 1], keys[b : b + 1],
         tags[b : b + 1, :n])
        for b, n in enumerate(LENGTHS)
    ]  # fmt: skip


def gradients(model: Tagger, losses: Tensor) -> list[Tensor]:
    weighted = losses * torch.arange(1, len(losses) + 1)
    return list(torch.autograd.grad(weighted.sum(), list(model.parameters())))


@every_variant
@pytest.mark.parametrize("width, word_bytes", [(9, 6), (13, 6), (9, 17)])
def test_losses_and_gradients_do_not_depend_on_padding(
    options: dict[str, Any], width: int, word_bytes: int
) -> None:
    """With dropout as well, because a mask depends on the row only."""
    model = tagger(**options)
    losses = model(*batch(width, word_bytes))
    expected = torch.cat([model(*row) for row in single_rows()])
    assert losses.shape == (len(LENGTHS),)
    assert (losses - expected).abs().max() < 1e-10
    for a, b in zip(gradients(model, losses), gradients(model, expected), strict=True):
        assert (a - b).abs().max() < 1e-10


@every_variant
def test_tags_do_not_depend_on_padding(options: dict[str, Any]) -> None:
    model = tagger(**options).eval()
    words, characters, lengths, keys, _ = batch(13)
    batched = model.scorer.decode(model.emissions(words, characters, lengths, keys), lengths)
    for b, (n, row) in enumerate(zip(LENGTHS, single_rows(), strict=True)):
        single = model.scorer.decode(model.emissions(*row[:4]), row[2])
        assert batched[b, :n].tolist() == single[0].tolist()
        assert not batched[b, n:].any()


@pytest.mark.parametrize("crf", [True, False])
def test_loss_is_the_nll_of_the_tags_given_the_emissions(crf: bool) -> None:
    """Under the CRF, or of each tag independently."""
    model = tagger(crf=crf)
    words, characters, lengths, keys, tags = batch()
    emissions = model.emissions(words, characters, lengths, keys)
    if crf:
        layer = CRF(TAGS).double()
        layer.load_state_dict(model.scorer.state_dict())
        expected = layer.nll(emissions, tags.t(), lengths)
    else:
        losses = functional.cross_entropy(emissions.permute(1, 2, 0), tags, reduction="none")
        expected = torch.stack([row[:n].sum() for row, n in zip(losses, LENGTHS, strict=True)])
        assert torch.equal(model.scorer.decode(emissions, lengths)[3], emissions[:, 3].argmax(-1))
    assert (model(words, characters, lengths, keys, tags) - expected).abs().max() < 1e-12


def test_every_byte_affects_the_features_of_its_word_only() -> None:
    model = tagger(bidirectional=False)
    assert model.characters is not None
    characters = torch.full((len(LENGTHS), max(LENGTHS), WORD_BYTES), 7)
    before = model.characters(characters.transpose(0, 1))
    for position in range(WORD_BYTES):
        other = characters.clone()
        other[2, 1, position] = 9
        changed = (model.characters(other.transpose(0, 1)) != before).any(-1)
        assert changed.nonzero().tolist() == [[1, 2]]


def test_words_without_bytes_give_finite_losses_and_gradients() -> None:
    model = tagger()
    words, characters, lengths, keys, tags = batch()
    losses = model(words, characters * 0, lengths, keys, tags)
    assert losses.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(model, losses))


@pytest.mark.parametrize("options", [{}, {"crf": False, "characters": 0}], ids=str)
def test_bf16_loss_is_close_and_float32(options: dict[str, Any]) -> None:
    model = tagger(hidden=16, **options).float()
    full_precision = model(*batch())
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(*batch())
    assert losses.dtype == torch.float32
    assert (losses / full_precision - 1).abs().max() < 0.02
    assert not torch.equal(losses, full_precision)
    assert all(gradient.isfinite().all() for gradient in gradients(model, losses))
