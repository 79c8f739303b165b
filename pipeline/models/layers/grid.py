"""Grid-LSTM (Kalchbrenner et al. 2015, arXiv 1507.01526): LSTMs along every dimension of a grid,
depth among them.

A cell of the grid takes the hidden state of each dimension, side by side, and an LSTM a dimension
turns them and that dimension's memory into its new pair:

    H = [h_1 .. h_n],  (h_i, m_i) = LSTM_i(H, m_i)

The LSTM is the usual one, h = o tanh(m), where the paper writes tanh(o m).

Legend: T tokens of the longest row, B rows, E input features, H hidden units, D time dimensions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models.dropout import LockedDropout
from pipeline.models.layers.pooling import valid
from pipeline.models.layers.recurrent import Layer, LayerState
from pipeline.models.settings import ModelSettings

TURN = 0x5851F42D4C957F2D
"""Between the keys of layers that share their weights, lest zoneout draws alike in them: any large
odd number."""


class Depth(nn.Module):
    """The LSTM along depth of one layer: a step of it, for all places at once."""

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__()
        own = settings.model_copy(
            update={"bidirectional": False, "zoneout": 0.0, "zoneout_memory": 0.0}
        )
        self.layer = Layer(inputs, own, cell="lstm")

    def forward(self, along: Tensor, h: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """What the other dimensions say [..., W], h and memory of the layer below [..., H] -> h and
        memory of this one. To the LSTM each place is a row of one token."""
        ones = torch.ones(h.shape[:-1], dtype=torch.int64, device=h.device).flatten()
        before = LayerState(*(x.reshape(1, len(ones), h.shape[-1]) for x in (h, memory)))
        out, after = self.layer(along.reshape(1, len(ones), along.shape[-1]), ones, ones, before)
        return out.view_as(h), after.c.view_as(memory)


class GridStack(nn.Module):
    """A grid over depth and time: `layers` cells deep, as wide as the row has tokens.

    With two directions there are two time dimensions, one from each end. Along depth the hidden
    state begins as the embedding (mapped to H features) and the memory as 0; the top's hidden
    state is the output. Depth is the priority dimension unless `grid_priority` is off: it sees the
    states that time has reached at its own token, else those of the token before. `grid_tied`
    has one set of weights in all layers.
    """

    def __init__(self, inputs: int, settings: ModelSettings, site: int = 0) -> None:
        super().__init__()
        self.outputs = settings.hidden
        self.project = nn.Linear(inputs, settings.hidden)
        count = 1 if settings.grid_tied else settings.layers
        times = count if settings.grid_dimensions > 1 else 0
        self.times = nn.ModuleList(
            Layer(settings.hidden, settings, i, "lstm") for i in range(times)
        )
        width = settings.hidden * (1 + settings.bidirectional) * (times > 0)
        self.depths = nn.ModuleList(Depth(width, settings) for _ in range(count))
        self.norms = nn.ModuleList(
            nn.LayerNorm(settings.hidden) if settings.layer_norm else nn.Identity()
            for _ in range(count)
        )
        self.priority = settings.grid_priority
        self.dropouts = nn.ModuleList(
            LockedDropout(settings.dropout, site + i) for i in range(settings.layers)
        )

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, before: Sequence[LayerState | None] = ()
    ) -> tuple[Tensor, list[LayerState]]:
        """x [T, B, E], lengths [B] in 1..T, keys [B], what all layers carried along time, if
        anything -> states [T, B, H], 0 past a length, and what they carry now."""
        h = self.project(x)  # [T, B, H]
        steps, rows, units = h.shape
        memory = torch.zeros_like(h)
        carried, states = [], list(before) or [None] * len(self.dropouts)
        for number, (dropout, state) in enumerate(zip(self.dropouts, states, strict=True)):
            h = self.norms[number % len(self.norms)](dropout(h, keys))
            along = h[..., :0]  # [T, B, D*H]
            if self.times:
                turn, which = divmod(number, len(self.times))
                own = keys + torch.full_like(keys, turn) * TURN  # wraps around
                along, after = self.times[which](h, lengths, own, state)
                carried.append(after)
                if not self.priority:
                    start = h.new_zeros(1, rows, units) if state is None else state.h
                    along = _one_step_before(along, start.to(along.dtype))
            depth = self.depths[number % len(self.depths)]
            h, memory = depth(along, h, memory)
        return h * valid(lengths, steps)[..., None], carried


def _one_step_before(states: Tensor, start: Tensor) -> Tensor:
    """[T, B, D*H]: what each direction had before it read this token; `start` [D, B, H], or [1, B,
    H] for all, before the first. A row's states behind its end are 0, as the second's start is."""
    units = start.shape[2]
    parts = [torch.cat([start[:1], states[:-1, :, :units]])]
    if states.shape[2] > units:
        parts.append(torch.cat([states[1:, :, units:], torch.zeros_like(start[-1:])]))
    return torch.cat(parts, -1)
