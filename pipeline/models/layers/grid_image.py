"""Grid LSTM over images: depth, rows and columns (Kalchbrenner et al. 2015; see also grid.py).

Shapes: R rows and C columns of an image's positions, B images, E input features, H hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cells import CELLS, Cell
from pipeline.models.dropout import LockedDropout, assign_dropout_sites
from pipeline.models.layers.grid import DepthLSTM
from pipeline.models.layers.recurrent import LayerState
from pipeline.models.settings import ModelSettings


class GridImage(nn.Module):
    """A grid of three dimensions, with `layers` cells along depth.

    At each position one LSTM runs down the rows, one across the columns and one along depth. Depth
    has priority: it reads the new states of the other two at its own position.

    Each layer starts from the next corner of the image (as in multi-dimensional LSTM, Graves et al.
    2007), so from the third layer on every position depends on all others. Input projection and
    output are as in `GridStack`. Uses only these settings: hidden, layers, grid_tied, forget_bias,
    dropout, weight_drop and native.
    """

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
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
            flipped_axes = [axis for axis in (0, 1) if number >> axis & 1]
            h = dropout(h, keys)
            plane = self.planes[number % len(self.planes)]
            plane_states = plane(h.flip(flipped_axes)).flip(flipped_axes)
            h, memory = self.depths[number % len(self.depths)](plane_states, h, memory)
        return h


class ImageStack(nn.Module):
    """A `GridImage` with the interface of `GridStack`: tokens are an image's positions, row by
    row."""

    def __init__(self, inputs: int, settings: ModelSettings, plane: tuple[int, int]) -> None:
        """`plane` is (R, C)."""
        super().__init__()
        self.plane, self.outputs = plane, settings.hidden
        self.grid = GridImage(inputs, settings)
        assign_dropout_sites(self)

    def forward(self, x: Tensor, lengths: Tensor, keys: Tensor) -> tuple[Tensor, list[LayerState]]:
        """Run over images x [R*C, B, E] with dropout keys [B].

        Returns states [R*C, B, H] and an empty list, as there is no recurrent state to resume from.
        `lengths` are ignored: all images have R*C positions.
        """
        return self.grid(x.unflatten(0, self.plane), keys).flatten(0, 1), []


class PlaneLSTM(nn.Module):
    """One layer's LSTMs down the rows and across the columns, starting from the top left corner."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.units = settings.hidden
        # Inputs are [h of depth, h of the other plane dimension]; the cell's own h is recurrent.
        self.down: Cell = CELLS["lstm"](2 * settings.hidden, settings)
        self.across: Cell = CELLS["lstm"](2 * settings.hidden, settings)

    def forward(self, depth: Tensor) -> Tensor:
        """Compute the states [R, C, B, 2*H], down and across concatenated, from those of depth
        [R, C, B, H].

        Positions of one diagonal, r + c = k, depend only on the previous diagonal, so each diagonal
        is computed at once, in R + C - 1 steps.
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
        memory = h.float() if h.dtype != torch.float64 else h
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
        return torch.stack([diagonals[r : r + columns, r] for r in range(rows)])

    def _combined_weights(self) -> tuple[Tensor, Tensor]:
        """Return the weights of both LSTMs for the depth state [8*H, H] and for the concatenated
        down and across states [8*H, 2*H]."""
        down_depth, down_across = self.down.input.split(self.units, 1)
        across_depth, across_down = self.across.input.split(self.units, 1)
        down = torch.cat([self.down.recurrent_weight(), down_across], 1)
        across = torch.cat([across_down, self.across.recurrent_weight()], 1)
        return torch.cat([down_depth, across_depth]), torch.cat([down, across])


def _shift_down(states: Tensor) -> Tensor:
    """Give each row of [R, B, H] the states of the row above it; the first row gets zeros."""
    return functional.pad(states[:-1], [0, 0, 0, 0, 1, 0])
