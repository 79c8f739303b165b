"""Grid-LSTM over images: depth, row and column (Kalchbrenner et al. 2015; grid.py has the rest).

Legend: R rows and C columns of an image's places, B images, E input features, H hidden units.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cells import CELLS, Cell
from pipeline.models.dropout import LockedDropout
from pipeline.models.layers.grid import Depth
from pipeline.models.layers.recurrent import LayerState
from pipeline.models.settings import ModelSettings


class GridImage(nn.Module):
    """A grid of three dimensions, `layers` cells deep: at each place an LSTM goes on down the rows,
    one across the columns, and one along depth, which has priority: it sees the states that the
    other two have reached at its place.

    Each layer begins in another corner (as in multi-dimensional LSTM, Graves et al. 2007), so from
    the third on every place knows of all others. Input and output are those of `GridStack`. Of the
    settings it heeds hidden, layers, grid_tied, forget_bias, dropout, weight_drop and native.
    """

    def __init__(self, inputs: int, settings: ModelSettings, site: int = 0) -> None:
        super().__init__()
        self.outputs = settings.hidden
        self.project = nn.Linear(inputs, settings.hidden)
        count = 1 if settings.grid_tied else settings.layers
        self.planes = nn.ModuleList(Plane(settings) for _ in range(count))
        self.depths = nn.ModuleList(Depth(2 * settings.hidden, settings) for _ in range(count))
        self.dropouts = nn.ModuleList(
            LockedDropout(settings.dropout, site + i) for i in range(settings.layers)
        )

    def forward(self, x: Tensor, keys: Tensor) -> Tensor:
        """x [R, C, B, E], keys [B] (of dropout) -> states [R, C, B, H]."""
        h = self.project(x)
        memory = torch.zeros_like(h)
        for number, dropout in enumerate(self.dropouts):
            corner = [axis for axis in (0, 1) if number >> axis & 1]
            h = dropout(h, keys)
            along = self.planes[number % len(self.planes)](h.flip(corner)).flip(corner)
            h, memory = self.depths[number % len(self.depths)](along, h, memory)
        return h


class ImageStack(nn.Module):
    """The same with the face of `GridStack`: the places of images are tokens, row by row."""

    def __init__(
        self, inputs: int, settings: ModelSettings, plane: tuple[int, int], site: int = 0
    ) -> None:
        super().__init__()
        self.plane, self.outputs = plane, settings.hidden
        self.grid = GridImage(inputs, settings, site)

    def forward(self, x: Tensor, lengths: Tensor, keys: Tensor) -> tuple[Tensor, list[LayerState]]:
        """x [R*C, B, E], all of one length, keys [B] (of dropout) -> states [R*C, B, H]; nothing is
        carried."""
        return self.grid(x.unflatten(0, self.plane), keys).flatten(0, 1), []


class Plane(nn.Module):
    """The LSTMs down the rows and across the columns of one layer, from the first corner on."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.units = settings.hidden
        # of [h of depth, h of the other dimension], and its own
        self.down: Cell = CELLS["lstm"](2 * settings.hidden, settings)
        self.across: Cell = CELLS["lstm"](2 * settings.hidden, settings)

    def forward(self, depth: Tensor) -> Tensor:
        """The states of depth [R, C, B, H] -> those down and across, side by side [R, C, B, 2*H].

        Places of a diagonal, r + c = k, hang on those of the one before only and are worked on
        together: R + C - 1 steps.
        """
        rows, columns, images, units = depth.shape
        of_depth, of_plane = self._weights()
        bias = torch.cat([self.down.bias, self.across.bias])
        incoming = functional.linear(depth, of_depth, bias)  # [R, C, B, 8*H]
        of_plane = of_plane.to(incoming.dtype)
        # [K, R, B, 8*H]: k = r + c, and zeros where a row has not begun or is over
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
            h_down, m_down = _from_above(h_down), _from_above(m_down)
            products = functional.linear(torch.cat([h_down, h_across], -1), of_plane)
            wx_down, wx_across = wx.chunk(2, -1)
            uh_down, uh_across = products.chunk(2, -1)
            h_down, m_down = self.down.step(wx_down, uh_down, h_down, m_down)
            h_across, m_across = self.across.step(wx_across, uh_across, h_across, m_across)
            h = torch.cat([h_down, h_across], -1) * mask
            memory = torch.cat([m_down, m_across], -1) * mask
            states.append(h)
        diagonals = torch.stack(states)  # [K, R, B, 2*H]
        return torch.stack([diagonals[r : r + columns, r] for r in range(rows)])

    def _weights(self) -> tuple[Tensor, Tensor]:
        """Of both LSTMs: what depth is multiplied by [8*H, H], and both their states [8*H, 2*H]."""
        down_depth, down_across = self.down.input.split(self.units, 1)
        across_depth, across_down = self.across.input.split(self.units, 1)
        down = torch.cat([self.down.recurrent(), down_across], 1)
        across = torch.cat([across_down, self.across.recurrent()], 1)
        return torch.cat([down_depth, across_depth]), torch.cat([down, across])


def _from_above(states: Tensor) -> Tensor:
    """[R, B, H]: what the row above has, zeros above the first."""
    return functional.pad(states[:-1], [0, 0, 0, 0, 1, 0])
