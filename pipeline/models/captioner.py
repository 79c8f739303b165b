"""Images to texts: features of an image's regions, and a decoder that attends to them (Xu et al.
2015).

Legend: B images, H rows and W columns of pixels, K channels of a pixel, F features of a region that
are given; S regions, H' rows and W' columns of them, C channels, M features that the decoder sees.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from pipeline.models.decoding.decoder import Decoder, Memory
from pipeline.models.decoding.seq2seq import EncoderDecoder
from pipeline.models.dropout import LockedDropout
from pipeline.models.layers.pooling import valid
from pipeline.models.settings import ModelSettings

GROUP = 8
"""Channels that are normalized together."""
MIDDLE = 127.5
"""Of a pixel's figures, which go from 0 to 255."""
DECODER = 1
"""Places of the decoder's dropouts, behind that of the encoder."""


class Stage(nn.Module):
    """A basic block of a residual network (He et al. 2016) that halves rows and columns, normalized
    by groups (Wu and He 2018): an image's features hang on no other image of its batch."""

    def __init__(self, inputs: int, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inputs, channels, 3, stride=2, padding=1, bias=False)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.past = nn.Conv2d(inputs, channels, 1, stride=2, bias=False)
        groups = channels // GROUP
        self.norms = nn.ModuleList(nn.GroupNorm(groups, channels) for _ in range(3))
        for convolution in (self.first, self.second, self.past):
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C', H / 2, W / 2], rounded up."""
        first, second, past = self.norms
        inner = second(self.second(torch.relu(first(self.first(x)))))
        return torch.relu(inner + past(self.past(x)))


class Pixels(nn.Module):
    """A convolutional network over the pixels of images of one size. To what it says of a region is
    added where that is: a vector for its row and one for its column, which are learnt."""

    def __init__(self, width: int, plane: tuple[int, int], settings: ModelSettings) -> None:
        """`plane` says how many rows and columns of pixels there are, `width` how many figures a
        row of pixels has."""
        super().__init__()
        self.plane = plane
        widths = [width // plane[1], *settings.convolutions]
        stages = (Stage(inputs, channels) for inputs, channels in pairwise(widths))
        self.stages = nn.Sequential(*stages)
        down, across = (-(-size // 2 ** len(settings.convolutions)) for size in plane)
        self.outputs = widths[-1]
        self.rows = nn.Parameter(0.1 * torch.randn(self.outputs, down, 1))
        self.columns = nn.Parameter(0.1 * torch.randn(self.outputs, 1, across))

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Bytes [B, H, W * K] -> [S, B, M], and how many regions each image has [B]: all S."""
        pixels = source.unflatten(2, (self.plane[1], -1)).permute(0, 3, 1, 2)  # [B, K, H, W]
        # Not channels last, as the bytes lie: of such, oneDNN's fp32 gradients write out of bounds.
        x = pixels.to(self.rows.dtype, memory_format=torch.contiguous_format) / MIDDLE - 1
        x = self.stages(x) + self.rows + self.columns  # [B, M, H', W']
        states = x.flatten(2).permute(2, 0, 1)
        return states, torch.full_like(lengths, len(states))


class Regions(nn.Module):
    """A linear layer over features that are given."""

    def __init__(self, width: int, settings: ModelSettings) -> None:
        super().__init__()
        self.linear = nn.Linear(width, settings.hidden)
        self.outputs = settings.hidden

    def forward(self, source: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, S, F], lengths [B] -> [S, B, M] and the same lengths."""
        return torch.relu(self.linear(source)).transpose(0, 1), lengths


class Captioner(EncoderDecoder):
    """Attention goes over the regions, and the decoder begins with their mean."""

    def __init__(self, settings: ModelSettings, encoder: Pixels | Regions, vocabulary: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.memory_dropout = LockedDropout(settings.dropout, site=0)
        width = encoder.outputs
        self.decoder = Decoder(settings, vocabulary, width, width, DECODER)

    def encode(self, source: Tensor, lengths: Tensor, keys: Tensor) -> Memory:
        """source of the encoder [B, ...], lengths [B] and keys [B]."""
        states, lengths = self.encoder(source, lengths)  # [S, B, M]
        states = self.memory_dropout(states, keys)
        known = valid(lengths, len(states))[..., None]  # [S, B, 1]
        summary = torch.where(known, states, 0).sum(0) / lengths[:, None]  # [B, M]
        return self.decoder.remember(states, lengths, summary)
