"""Grid LSTM over images: depth, rows and columns (Kalchbrenner et al. 2015).

Shapes: R rows and C columns of an image's positions (pixels or patches), K = R + C - 1
anti-diagonals, B images, E input features, H hidden units.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cells.grid_lstm import GridLstm
from pipeline.models.dropout import LockedDropout, assign_dropout_sites
from pipeline.models.encoder import Encoder
from pipeline.models.layers.depth_lstm import DepthLSTM
from pipeline.models.layers.recurrent import LayerState


class GridImage(nn.Module):
    """A grid LSTM over rows, columns and depth, with `settings.layers` layers along depth.

    At each position one LSTM runs down the rows, one across the columns and one along depth. Depth
    is the priority dimension of the paper: it reads the other two's new states at its position.

    Layers start from the corners top left, bottom left, top right and bottom right in turn (as in
    multi-dimensional LSTM, Graves et al. 2007), so from the third layer on every position depends
    on all others. The input, projected to H features, is the first state along depth, with a cell
    state of 0; the output is the top layer's state along depth.

    Uses only these settings: hidden, layers, grid_tied, forget_bias, dropout, weight_drop and
    native.
    """

    def __init__(self, inputs: int, settings: GridLstm.Settings) -> None:
        super().__init__()
        self.outputs = settings.hidden
        self.project = nn.Linear(inputs, settings.hidden)
        count = 1 if settings.grid_tied else settings.layers
        self.planes = nn.ModuleList(PlaneLSTM(settings) for _ in range(count))
        self.depths = nn.ModuleList(DepthLSTM(2 * settings.hidden, settings) for _ in range(count))
        self.dropouts = nn.ModuleList(
            LockedDropout(settings.dropout) for _ in range(settings.layers)
        )
        assign_dropout_sites(self)

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """Run over images x [R, C, B, E] with dropout keys [B]; returns states [R, C, B, H]."""
        h = self.project(x)
        memory = torch.zeros_like(h)
        for number, dropout in enumerate(self.dropouts):
            # Bit 0 of the layer's number flips the rows, bit 1 the columns.
            flipped_axes = [axis for axis in (0, 1) if (number >> axis) & 1]
            h = dropout(h, keys)
            plane = self.planes[number % len(self.planes)]
            plane_states = plane(h.flip(flipped_axes)).flip(flipped_axes)
            h, memory = self.depths[number % len(self.depths)](plane_states, h, memory)
        return h


class ImageStack(Encoder):
    """Adapts `GridImage` to the interface of `GridStack`: the R*C tokens are an image's positions,
    row by row."""

    def __init__(self, inputs: int, settings: Any, plane: tuple[int, int] = (0, 0)) -> None:
        """`plane` is (R, C)."""
        super().__init__(inputs, settings, plane)
        self.image_size, self.outputs = plane, settings.hidden
        self.grid = GridImage(inputs, settings)
        assign_dropout_sites(self)

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, initial: Sequence[LayerState | None] = ()
    ) -> tuple[Tensor, list[LayerState]]:
        """Run over images x [R*C, B, E] with dropout keys [B].

        Returns states [R*C, B, H] and an empty list, as there is no recurrent state to resume from.
        `lengths` are ignored: all images have R*C positions.
        """
        return self.grid(x.unflatten(0, self.image_size), keys).flatten(0, 1), []


class PlaneLSTM(nn.Module):
    """One layer's LSTMs down the rows and across the columns, starting from the top left corner."""

    def __init__(self, settings: GridLstm.Settings) -> None:
        super().__init__()
        self.units = settings.hidden
        # The input is [state along depth, state of the other LSTM]; its own state is recurrent.
        self.down = GridLstm(2 * settings.hidden, settings)
        self.across = GridLstm(2 * settings.hidden, settings)

    def forward(self, depth: Tensor) -> Tensor:
        """Map depth states [R, C, B, H] to the concatenated down and across states [R, C, B, 2*H].

        The positions of an anti-diagonal, r + c = k, depend only on the previous one, so they are
        all computed in one step; there are K steps.
        """
        rows, columns, images, units = depth.shape
        depth_weight, plane_weight = self._combined_weights()
        bias = torch.cat([self.down.bias, self.across.bias])
        incoming = functional.linear(depth, depth_weight, bias)  # [R, C, B, 8*H]
        plane_weight = plane_weight.to(incoming.dtype)
        # [K, R, B, 8*H] with k = r + c, and zeros where column k - r is outside the image
        shifted = [
            functional.pad(row, [0, 0, 0, 0, r, rows - 1 - r]) for r, row in enumerate(incoming)
        ]
        skewed = torch.stack(shifted, 1)
        k = torch.arange(len(skewed), device=depth.device)[:, None]
        c = k - torch.arange(rows, device=depth.device)  # [K, R]
        inside = ((c >= 0) & (c < columns))[..., None, None]
        h = incoming.new_zeros(rows, images, 2 * units)
        memory = h.float() if h.dtype != torch.float64 else h  # at least float32
        states = []
        for wx, mask in zip(skewed, inside, strict=True):
            h_down, h_across = h.chunk(2, -1)
            m_down, m_across = memory.chunk(2, -1)
            h_down, m_down = _shift_down(h_down), _shift_down(m_down)
            products = functional.linear(torch.cat([h_down, h_across], -1), plane_weight)
            wx_down, wx_across = wx.chunk(2, -1)
            uh_down, uh_across = products.chunk(2, -1)
            h_down, m_down = self.down.step(wx_down, uh_down, h_down, m_down)
            h_across, m_across = self.across.step(wx_across, uh_across, h_across, m_across)
            h = torch.cat([h_down, h_across], -1) * mask
            memory = torch.cat([m_down, m_across], -1) * mask
            states.append(h)
        diagonals = torch.stack(states)  # [K, R, B, 2*H]
        # Position (r, c) is entry r of anti-diagonal r + c.
        return torch.stack([diagonals[r : r + columns, r] for r in range(rows)])

    def _combined_weights(self) -> tuple[Tensor, Tensor]:
        """Return the weights of both LSTMs (4 gates each, down first) for the depth state [8*H, H]
        and for the concatenated down and across states [8*H, 2*H]."""
        down_depth, down_across = self.down.input.split(self.units, 1)
        across_depth, across_down = self.across.input.split(self.units, 1)
        down = torch.cat([self.down.recurrent_weight(), down_across], 1)
        across = torch.cat([across_down, self.across.recurrent_weight()], 1)
        return torch.cat([down_depth, across_depth]), torch.cat([down, across])


def _shift_down(states: Tensor) -> Tensor:
    """Give each row of [R, B, H] the states of the row above it; the first row gets zeros."""
    return functional.pad(states[:-1], [0, 0, 0, 0, 1, 0])
