"""Captioner: region features, independence of padding and of the other captions of an image."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pipeline.corpus.tokenization.special_tokens import BEGIN, END
from pipeline.models.captioner import Captioner, PixelEncoder, RegionEncoder
from pipeline.models.decoding.beam_search import beam_search
from tests.helpers.settings import model_settings

V, F, H, W = 17, 6, 9, 14
LENGTHS = [3, 4]  # lengths of TEXTS
TEXTS = torch.tensor([[BEGIN, 5, 6, 0], [BEGIN, 7, 8, 9]])


def settings(**changes: Any) -> Any:
    values = {"embedding": 8, "hidden": 8, "layers": 2, "convolutions": [8, 16]}
    return model_settings(**(values | changes))


def captioner(kind: str, **changes: Any) -> Captioner:
    torch.manual_seed(0)
    s = settings(**changes)
    encoder = RegionEncoder(F, s) if kind == "regions" else PixelEncoder(3 * W, (H, W), s)
    return Captioner(s, encoder, V).double().eval()


def source(kind: str, rows: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    if kind == "regions":
        lengths = torch.tensor([5, 2, 4, 1, 3][:rows])
        return torch.rand(rows, 5, F, generator=generator).double(), lengths
    pixels = torch.randint(0, 256, (rows, H, 3 * W), generator=generator, dtype=torch.uint8)
    return pixels, torch.full((rows,), H)


def texts(rows: int, indices: Sequence[int] = (0, 1)) -> tuple[Tensor, Tensor]:
    """The selected TEXTS for each of B = `rows` images [K * B, T'], and their lengths."""
    tokens = TEXTS[list(indices)].repeat_interleave(rows, 0)
    return tokens, torch.tensor(LENGTHS)[list(indices)].repeat_interleave(rows)


@pytest.mark.parametrize("size", [(28, 140), (7, 9), (1, 1), (16, 16)])
@pytest.mark.parametrize("stages", [1, 3])
def test_there_is_one_region_per_position_of_the_last_stage(
    size: tuple[int, int], stages: int
) -> None:
    encoder = PixelEncoder(3 * size[1], size, settings(convolutions=[8] * stages))
    pixels = torch.zeros(2, size[0], 3 * size[1], dtype=torch.uint8)
    states, lengths = encoder(pixels, torch.tensor([size[0]] * 2))
    down, across = (-(-side // 2**stages) for side in size)
    assert states.shape == (down * across, 2, encoder.outputs)
    assert lengths.tolist() == [down * across] * 2


def test_channels_and_positions_of_pixels_are_distinguished() -> None:
    """A red image differs from a green one, and regions are in row-major order."""
    encoder = captioner("pixels").encoder
    pixels = torch.zeros(3, H, W, 3, dtype=torch.uint8)
    pixels[0, ..., 0] = pixels[1, ..., 1] = 255
    pixels[2, -1, 0] = 255  # the lower left corner
    states, lengths = encoder(pixels.flatten(2), torch.tensor([H] * 3))
    assert not torch.allclose(states[:, 0], states[:, 1])
    black, _ = encoder(torch.zeros_like(pixels[:1]).flatten(2), torch.tensor([H]))
    change = (states[:, 2] - black[:, 0]).abs().sum(1)  # [S]
    across = -(-W // 4)
    assert int(lengths[0]) == len(change) == 3 * across
    assert change.argmax() == 2 * across


@pytest.mark.parametrize("channels", [1, 3])
def test_convolutions_get_contiguous_channels_first_input(channels: int) -> None:
    """oneDNN's fp32 gradients need this layout, but the pixel bytes are laid out channels last."""
    encoder = PixelEncoder(channels * W, (H, W), settings())
    strides: list[tuple[int, ...]] = []
    encoder.stages.register_forward_pre_hook(lambda _, args: strides.append(args[0].stride()))
    encoder(torch.zeros(2, H, channels * W, dtype=torch.uint8), torch.tensor([H] * 2))
    assert strides == [(channels * H * W, H * W, W, 1)]


def test_regions_get_row_and_column_embeddings() -> None:
    """With zero convolutions, the features of a region are its position embedding alone."""
    encoder = captioner("pixels").encoder
    assert isinstance(encoder, PixelEncoder)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.zeros_(module.weight)
    states, _ = encoder(torch.zeros(1, H, 3 * W, dtype=torch.uint8), torch.tensor([H]))
    grid = states[:, 0].unflatten(0, (-(-H // 4), -1))  # [H', W', M]
    for row, column in ((0, 0), (2, 1), (1, 3)):
        position = encoder.rows[:, row, 0] + encoder.columns[:, 0, column]
        assert torch.equal(grid[row, column], position)
    assert len(states[:, 0].unique(dim=0)) == len(states)


@pytest.mark.parametrize("kind", ["regions", "pixels"])
def test_scores_of_a_row_do_not_depend_on_the_batch(kind: str) -> None:
    model = captioner(kind)
    images, lengths = source(kind)
    keys = torch.arange(3)
    batched = model(images, lengths, *texts(3), keys)
    for row in range(3):
        single_image = images[row : row + 1]
        if kind == "regions":
            single_image = single_image[:, : lengths[row]]
        single = model(single_image, lengths[row : row + 1], *texts(1), keys[row : row + 1])
        for k, length in enumerate(LENGTHS):
            expected = batched[:length, 3 * k + row]
            assert torch.allclose(single[:length, k], expected, atol=1e-12)


def test_padding_after_the_regions_is_ignored() -> None:
    model = captioner("regions")
    images, lengths = source("regions")
    noisy = images.clone()
    for row, length in enumerate(lengths):
        noisy[row, length:] = 1e3
    keys = torch.arange(len(images))
    for memory in (model.encode(x, lengths, keys) for x in (images, noisy)):
        scores = [model(x, lengths, *texts(3), keys) for x in (images, noisy)]
        assert torch.equal(scores[0], scores[1])
        assert torch.isfinite(memory.states).all()


@pytest.mark.parametrize("cell", ["lstm", "gru", "elman", "goru"])
def test_captions_of_an_image_do_not_affect_each_other(cell: str) -> None:
    model = captioner("pixels", cell=cell)
    images, lengths = source("pixels")
    keys = torch.arange(3)
    batched = model(images, lengths, *texts(3), keys)
    for k, length in enumerate(LENGTHS):
        single = model(images, lengths, *texts(3, [k]), keys)
        expected = batched[:length, 3 * k : 3 * k + 3]
        assert torch.allclose(single[:length], expected, atol=1e-12)


def test_captions_of_an_image_have_different_dropout_masks() -> None:
    model = captioner("pixels", dropout=0.5).train()
    images, lengths = source("pixels")
    repeated = model(images, lengths, *texts(3, [1, 1]), torch.arange(3))
    single = model(images, lengths, *texts(3, [1]), torch.arange(3))
    assert torch.allclose(repeated[:, :3], single, atol=1e-12)
    assert not torch.allclose(repeated[:, :3], repeated[:, 3:])


@pytest.mark.parametrize("kind", ["regions", "pixels"])
@pytest.mark.parametrize("attention", ["additive", "dot"])
def test_gradient_matches_finite_differences(kind: str, attention: str) -> None:
    """Along one random direction in the space of all weights."""
    model = captioner(kind, attention=attention)
    images, lengths = source(kind)

    def loss() -> Tensor:
        scores = model(images, lengths, *texts(3), torch.arange(3)).log_softmax(-1)
        return -scores[:3, :, 5].sum()

    loss().backward()
    torch.manual_seed(3)
    weights = list(model.parameters())
    direction = [torch.randn_like(w) for w in weights]
    grads = [w.grad for w in weights]
    assert all(g is not None and g.abs().sum() > 0 for g in grads)
    expected = sum((g * d).sum() for g, d in zip(grads, direction, strict=True) if g is not None)
    step, values = 1e-6, []
    with torch.no_grad():
        for sign in (1, -2):
            for weight, d in zip(weights, direction, strict=True):
                weight.add_(d, alpha=sign * step)
            values.append(loss().item())
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(expected), rel=1e-4)


def test_attention_weights_cover_the_regions_of_the_image() -> None:
    model = captioner("regions")
    nn.init.normal_(model.decoder.bias)
    images, lengths = source("regions")
    with torch.no_grad():
        memory = model.encode(images, lengths, torch.arange(3))
        hypotheses = beam_search(
            model.step, memory, torch.tensor([6, 6, 6]),
            begin=BEGIN, end=END, suppress_tokens=(0, 1, BEGIN),
        )  # fmt: skip
    for length, (best,) in zip(lengths.tolist(), hypotheses, strict=True):
        assert best.weights.shape == (len(best.tokens), length)
        assert torch.allclose(best.weights.sum(1), torch.ones(len(best.tokens)).double())
