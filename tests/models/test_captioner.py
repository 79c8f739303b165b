"""Images to texts: what is padding has no part in it, and texts of one image are as if alone."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.corpus.tokenization.special_tokens import BEGIN, END
from pipeline.models.captioner import Captioner, Pixels, Regions
from pipeline.models.decoding.beam_search import beam_search
from pipeline.models.settings import ModelSettings

V, F, H, W = 17, 6, 9, 14
LENGTHS = [3, 4]  # of the texts below
TEXTS = torch.tensor([[BEGIN, 5, 6, 0], [BEGIN, 7, 8, 9]])


def settings(**changes: Any) -> ModelSettings:
    values = {"embedding": 8, "hidden": 8, "layers": 2, "convolutions": [8, 16]}
    return ModelSettings(**(values | changes))


def captioner(kind: str, **changes: Any) -> Captioner:
    torch.manual_seed(0)
    s = settings(**changes)
    encoder = Regions(F, s) if kind == "regions" else Pixels(3 * W, (H, W), s)
    return Captioner(s, encoder, V).double().eval()


def source(kind: str, rows: int = 3) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    if kind == "regions":
        lengths = torch.tensor([5, 2, 4, 1, 3][:rows])
        return torch.rand(rows, 5, F, generator=draw).double(), lengths
    pixels = torch.randint(0, 256, (rows, H, 3 * W), generator=draw, dtype=torch.uint8)
    return pixels, torch.full((rows,), H)


def texts(rows: int, which: Sequence[int] = (0, 1)) -> tuple[Tensor, Tensor]:
    """These of each row [K * B, T'], the first of all rows first."""
    tokens = TEXTS[list(which)].repeat_interleave(rows, 0)
    return tokens, torch.tensor(LENGTHS)[list(which)].repeat_interleave(rows)


@pytest.mark.parametrize("size", [(28, 140), (7, 9), (1, 1), (16, 16)])
@pytest.mark.parametrize("stages", [1, 3])
def test_a_region_is_a_place_of_the_last_stage(size: tuple[int, int], stages: int) -> None:
    encoder = Pixels(3 * size[1], size, settings(convolutions=[8] * stages))
    pixels = torch.zeros(2, size[0], 3 * size[1], dtype=torch.uint8)
    states, lengths = encoder(pixels, torch.tensor([size[0]] * 2))
    down, across = (-(-side // 2**stages) for side in size)
    assert states.shape == (down * across, 2, encoder.outputs)
    assert lengths.tolist() == [down * across] * 2


def test_channels_and_pixels_come_as_rows_of_pixels_have_them() -> None:
    """Red alone is another image than green alone, and regions come row by row."""
    encoder = captioner("pixels").encoder
    pixels = torch.zeros(3, H, W, 3, dtype=torch.uint8)
    pixels[0, ..., 0] = pixels[1, ..., 1] = 255
    pixels[2, -1, 0] = 255  # the lower left corner
    states, lengths = encoder(pixels.flatten(2), torch.tensor([H] * 3))
    assert not torch.allclose(states[:, 0], states[:, 1])
    empty, _ = encoder(torch.zeros_like(pixels[:1]).flatten(2), torch.tensor([H]))
    change = (states[:, 2] - empty[:, 0]).abs().sum(1)  # [S]
    across = -(-W // 4)
    assert int(lengths[0]) == len(change) == 3 * across
    assert change.argmax() == 2 * across


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_are_laid_out_channel_by_channel(channels: int) -> None:
    """As oneDNN's gradients in fp32 need it; the bytes come with the channels of a pixel side by
    side."""
    encoder = Pixels(channels * W, (H, W), settings())
    found: list[tuple[int, ...]] = []
    encoder.stages.register_forward_pre_hook(lambda _, given: found.append(given[0].stride()))
    encoder(torch.zeros(2, H, channels * W, dtype=torch.uint8), torch.tensor([H] * 2))
    assert found == [(channels * H * W, H * W, W, 1)]


def test_to_each_region_is_added_where_it_is() -> None:
    """Row by row, of an encoder that sees nothing."""
    encoder = captioner("pixels").encoder
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    states, _ = encoder(torch.zeros(1, H, 3 * W, dtype=torch.uint8), torch.tensor([H]))
    grid = states[:, 0].unflatten(0, (-(-H // 4), -1))  # [H', W', M]
    for row, column in ((0, 0), (2, 1), (1, 3)):
        where = encoder.rows[:, row, 0] + encoder.columns[:, 0, column]
        assert torch.equal(grid[row, column], where)
    assert len(states[:, 0].unique(dim=0)) == len(states)


@pytest.mark.parametrize("kind", ["regions", "pixels"])
def test_a_row_is_the_same_alone_and_in_a_padded_batch(kind: str) -> None:
    model = captioner(kind)
    rows, lengths = source(kind)
    keys = torch.arange(3)
    together = model(rows, lengths, *texts(3), keys)
    for row in range(3):
        alone = rows[row : row + 1]
        if kind == "regions":
            alone = alone[:, : lengths[row]]
        found = model(alone, lengths[row : row + 1], *texts(1), keys[row : row + 1])
        for number, length in enumerate(LENGTHS):
            expected = together[:length, 3 * number + row]
            assert torch.allclose(found[:length, number], expected, atol=1e-12)


def test_what_stands_past_the_regions_means_nothing() -> None:
    model = captioner("regions")
    rows, lengths = source("regions")
    other = rows.clone()
    for row, length in enumerate(lengths):
        other[row, length:] = 1e3
    for memory in (model.encode(x, lengths, lengths) for x in (rows, other)):
        scores = [model(x, lengths, *texts(3), lengths) for x in (rows, other)]
        assert torch.equal(scores[0], scores[1])
        assert torch.isfinite(memory.states).all()


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman", "goru"])
def test_several_texts_of_an_image_are_as_each_alone(cell: str) -> None:
    model = captioner("pixels", cell=cell)
    rows, lengths = source("pixels")
    keys = torch.arange(3)
    together = model(rows, lengths, *texts(3), keys)
    for number, length in enumerate(LENGTHS):
        alone = model(rows, lengths, *texts(3, [number]), keys)
        of_this = together[:length, 3 * number : 3 * number + 3]
        assert torch.allclose(alone[:length], of_this, atol=1e-12)


def test_dropout_takes_other_features_of_each_text() -> None:
    model = captioner("pixels", dropout=0.5).train()
    rows, lengths = source("pixels")
    same = model(rows, lengths, *texts(3, [1, 1]), torch.arange(3))
    first = model(rows, lengths, *texts(3, [1]), torch.arange(3))
    assert torch.allclose(same[:, :3], first, atol=1e-12)
    assert not torch.allclose(same[:, :3], same[:, 3:])


@pytest.mark.parametrize("kind", ["regions", "pixels"])
@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_the_gradient_is_that_of_differences(kind: str, attention: str) -> None:
    """Along one direction of all weights at once."""
    model = captioner(kind, attention=attention)
    rows, lengths = source(kind)

    def loss() -> Tensor:
        scores = model(rows, lengths, *texts(3), torch.arange(3)).log_softmax(-1)
        return -scores[:3, :, 5].sum()

    loss().backward()
    torch.manual_seed(3)
    weights = list(model.parameters())
    along = [torch.randn_like(w) for w in weights]
    grads = [w.grad for w in weights]
    assert all(g is not None and g.abs().sum() > 0 for g in grads)
    expected = sum((g * a).sum() for g, a in zip(grads, along, strict=True) if g is not None)
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for weight, a in zip(weights, along, strict=True):
                weight.add_(a, alpha=sign * step)
            values.append(loss().item())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(expected), rel=1e-4)


def test_what_a_word_looked_at_is_said_of_the_regions_of_its_image() -> None:
    model = captioner("regions")
    nn.init.normal_(model.decoder.bias)
    rows, lengths = source("regions")
    with torch.no_grad():
        memory = model.encode(rows, lengths, torch.arange(3))
        found = beam_search(
            model.step, memory, torch.tensor([6, 6, 6]), begin=BEGIN, end=END, never=(0, 1, BEGIN)
        )
    for length, (best,) in zip(lengths.tolist(), found, strict=True):
        assert best.weights.shape == (len(best.tokens), length)
        assert torch.allclose(best.weights.sum(1), torch.ones(len(best.tokens)).double())
