"""Grid LSTM (Kalchbrenner et al. 2015, arXiv 1507.01526): LSTMs along every dimension of a grid,
including depth.

A cell of the grid concatenates the hidden states of all dimensions. Each dimension has an LSTM that
maps this vector and the dimension's memory to the dimension's new hidden state and memory:

    H = [h_1 .. h_n],  (h_i, m_i) = LSTM_i(H, m_i)

The LSTM is the usual one, with h = o tanh(m) where the paper has tanh(o m).

Shapes: T tokens of the longest row, B rows, E input features, H hidden units, D time dimensions.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.models.cells.grid_lstm import GridLstm
from pipeline.models.dropout import LockedDropout, assign_dropout_sites
from pipeline.models.encoder import Encoder
from pipeline.models.layers.depth_lstm import DepthLSTM
from pipeline.models.layers.grid_image import ImageStack
from pipeline.models.layers.masks import valid
from pipeline.models.layers.recurrent import Layer, LayerState
from pipeline.models.settings import EncoderSettings
from pipeline.settings import Conflict, Sections

TIED_KEY_OFFSET = 0x5851F42D4C957F2D
"""Added to the dropout keys for each reuse of tied weights, so that zoneout draws different masks:
any large odd number."""


class GridSettings(GridLstm.Settings, EncoderSettings):
    """Keys of the cell and of all encoders."""


class GridStack(Encoder):
    """A grid over depth and time: `layers` cells along depth, one cell per token along time.

    With two directions there are two time dimensions, one from each end of the row. Along depth the
    hidden state is initialized to the embedding (projected to H features) and the memory to 0; the
    output is the hidden state of the top layer. Unless `grid_priority` is off, depth is the
    priority dimension: it reads the new time states of its own token instead of the states before
    that token. `grid_tied` shares one set of weights between all layers.
    """

    def __init__(
        self, inputs: int, settings: GridSettings, plane: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(inputs, settings, plane)
        self.outputs = settings.hidden
        self.project = nn.Linear(inputs, settings.hidden)
        count = 1 if settings.grid_tied else settings.layers
        time_layers = count if settings.grid_dimensions > 1 else 0
        self.times = nn.ModuleList(
            Layer(settings.hidden, settings, bidirectional=settings.bidirectional, cell="lstm")
            for _ in range(time_layers)
        )
        width = settings.hidden * (1 + settings.bidirectional) * (time_layers > 0)
        self.depths = nn.ModuleList(DepthLSTM(width, settings) for _ in range(count))
        self.norms = nn.ModuleList(
            nn.LayerNorm(settings.hidden) if settings.layer_norm else nn.Identity()
            for _ in range(count)
        )
        self.priority = settings.grid_priority
        self.dropouts = nn.ModuleList(
            LockedDropout(settings.dropout) for _ in range(settings.layers)
        )
        assign_dropout_sites(self)

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        if config.model.cell != "grid_lstm":
            yield Conflict(
                "model.encoder", "is that of model.cell=grid_lstm", "set model.cell=grid_lstm"
            )

    @classmethod
    def build(cls, inputs: int, settings: Any, plane: tuple[int, int] = (0, 0)) -> Encoder:
        if settings.grid_dimensions == 3:
            return ImageStack(inputs, settings, plane)
        return cls(inputs, settings, plane)

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, initial: Sequence[LayerState | None] = ()
    ) -> tuple[Tensor, list[LayerState]]:
        """Run all layers over a padded batch.

        Takes x [T, B, E], lengths [B] in 1..T, dropout keys [B] and each layer's initial time state
        (empty: zeros). Returns the top layer's states [T, B, H], 0 past a row's length, and each
        layer's final time state.
        """
        h = self.project(x)  # [T, B, H]
        steps, rows, units = h.shape
        memory = torch.zeros_like(h)
        final, states = [], list(initial) or [None] * len(self.dropouts)
        for number, (dropout, state) in enumerate(zip(self.dropouts, states, strict=True)):
            h = self.norms[number % len(self.norms)](dropout(h, keys))
            time_states = h[..., :0]  # [T, B, D*H]
            if self.times:
                reuse, index = divmod(number, len(self.times))
                layer_keys = keys + torch.full_like(keys, reuse) * TIED_KEY_OFFSET  # wraps around
                time_states, after = self.times[index](h, lengths, layer_keys, state)
                final.append(after)
                if not self.priority:
                    start = h.new_zeros(1, rows, units) if state is None else state.h
                    time_states = _previous_states(time_states, start.to(time_states.dtype))
            depth = self.depths[number % len(self.depths)]
            h, memory = depth(time_states, h, memory)
        return torch.where(valid(lengths, steps)[..., None], h, 0), final


def _previous_states(states: Tensor, start: Tensor) -> Tensor:
    """Return each direction's state before it reads a token: [T, B, D*H] -> [T, B, D*H].

    `start` [D, B, H], or [1, B, H] for all directions, is the state before the first token. The
    second direction starts from 0, which is also what the states past a row's end are.
    """
    units = start.shape[2]
    directions = [torch.cat([start[:1], states[:-1, :, :units]])]
    if states.shape[2] > units:
        directions.append(torch.cat([states[1:, :, units:], torch.zeros_like(start[-1:])]))
    return torch.cat(directions, -1)
