"""Image captioning model: an encoder of image regions and a decoder that attends to them (Xu et al.
2015).

Shapes: B images, H rows and W columns of pixels, K channels of a pixel, F precomputed features of a
region; S regions in H' rows and W' columns, C channels, M features of a region that the decoder
attends to.
"""

from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from pipeline.models.decoding.decoder import Decoder, Memory
from pipeline.models.decoding.seq2seq import EncoderDecoder
from pipeline.models.dropout import LockedDropout, assign_dropout_sites
from pipeline.models.layers.masks import valid
from pipeline.models.settings import ModelSettings
from pipeline.settings import setting

CHANNELS_PER_GROUP = 8
"""Channels that group normalization normalizes together."""
PIXEL_MIDPOINT = 127.5
"""Midpoint of the range of pixel values, 0 to 255."""

Channels = Annotated[int, Field(ge=8, multiple_of=8)]
"""Number of convolution channels; group normalization uses groups of 8."""


class CaptionerSettings(Decoder.Settings):
    """Keys of `Captioner`."""

    convolutions: list[Channels] = setting(
        [64, 128, 256, 512],
        "channels of each encoder stage; a stage halves rows and columns",
        min_length=1,
    )


class ResidualStage(nn.Module):
    """A basic block of a residual network (He et al. 2016) that halves rows and columns.

    It uses group normalization (Wu and He 2018), so the features of an image do not depend on the
    other images of its batch.
    """

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, channels, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.past = nn.Conv2d(inputs, channels, 1, stride=2, bias=False)
        groups = channels // CHANNELS_PER_GROUP
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels) for _ in range(3))
        for convolution in (self.first, self.second, self.past):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / 2, W / 2], rounded up."""
        first_norm, second_norm, shortcut_norm = self.norms
        residual = second_norm(self.second(torch.relu(first_norm(self.first(x)))))
        return torch.relu(residual + shortcut_norm(self.past(x)))


class PixelEncoder(nn.Module):
    """A convolutional network over the pixels of images of one size.

    It adds a learned embedding of the row and one of the column to the features of each region.
    """

    def __init__(self, width: int, plane: tuple[int, int], settings: CaptionerSettings) -> None:
        """`plane` is the number of rows and columns of pixels; `width` is the number of values in a
        row of pixels, columns times channels."""
        super().__init__()
        self.plane = plane
        channels = [width // plane[1], *settings.convolutions]
        stages = (ResidualStage(inputs, outputs) for inputs, outputs in pairwise(channels))
        self.stages = nn.Sequential(*stages)
        rows, columns = (-(-size // 2 ** len(settings.convolutions)) for size in plane)
        self.outputs = channels[-1]
        self.rows = nn.Parameter(0.1 * torch.randn(self.outputs, rows, 1))
        self.columns = nn.Parameter(0.1 * torch.randn(self.outputs, 1, columns))

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel values [B, H, W * K] as bytes -> features [S, B, M] and the number of regions of
        each image [B], which is S for all of them."""
        pixels = source.unflatten(2, (self.plane[1], -1)).permute(0, 3, 1, 2)  # [B, K, H, W]
        # The input is laid out channels last. Convert it, because oneDNN's fp32 gradients write out
        # of bounds in that layout.
        x = pixels.to(self.rows.dtype, memory_format=torch.contiguous_format) / PIXEL_MIDPOINT - 1
        x = self.stages(x) + self.rows + self.columns  # [B, M, H', W']
        states = x.flatten(2).permute(2, 0, 1)
        return states, torch.full_like(lengths, len(states))


class RegionEncoder(nn.Module):
    """A linear layer over precomputed features of image regions."""

    def __init__(self, width: int, settings: ModelSettings) -> None:
        super().__init__()
        self.linear = nn.Linear(width, settings.hidden)
        self.outputs = settings.hidden

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features [B, S, F], lengths [B] -> [S, B, M] and the unchanged lengths."""
        return torch.relu(self.linear(source)).transpose(0, 1), lengths


class Captioner(EncoderDecoder):
    """An image encoder, and a decoder that attends to the regions and starts from their mean."""

    Settings = CaptionerSettings

    def __init__(
        self, settings: CaptionerSettings, encoder: PixelEncoder | RegionEncoder, vocab_size: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.memory_dropout = LockedDropout(settings.dropout)
        features = encoder.outputs
        self.decoder = Decoder(settings, settings.layers, vocab_size, features, features)
        assign_dropout_sites(self)

    def encode(self, source: Tensor, lengths: Tensor, keys: Tensor) -> Memory:
        """Encode source [B, ...], the input of the image encoder; lengths [B]; dropout keys [B]."""
        states, lengths = self.encoder(source, lengths)  # [S, B, M]
        states = self.memory_dropout(states, keys)
        mask = valid(lengths, len(states))[..., None]  # [S, B, 1]
        summary = torch.where(mask, states, 0).sum(0) / lengths[:, None]  # [B, M]
        return self.decoder.build_memory(states, lengths, summary)
