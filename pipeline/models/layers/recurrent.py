"""Stacked recurrent layers that give each row of a padded batch what the row alone gives.

Legend: T tokens of the longest row, B rows, I input features, H hidden units, D directions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline import kernels
from pipeline.kernels import Zones
from pipeline.models.cells import CELLS, Cell
from pipeline.models.dropout import LockedDropout, Zoneout
from pipeline.models.layers.pooling import valid
from pipeline.models.settings import ModelSettings

ZONES = 1 << 16
"""Places of zoneout's draws, behind all others."""


class LayerState(NamedTuple):
    """What a layer carries from one stretch of its rows to the next."""

    h: Tensor
    """[D, B, H], the states after each row's last token."""
    c: Tensor
    """[D, B, H], LSTM's memory after the last token. Where the loop is torch's (not on a CPU from a
    state before, if there is a compiler), that of a row shorter than T is not a number."""


class Layer(nn.Module):
    """One recurrent layer in one or two directions."""

    def __init__(self, inputs: int, settings: ModelSettings, site: int = 0, cell: str = "") -> None:
        super().__init__()
        self.native = settings.native
        self.zoneout = Zoneout(settings.zoneout, settings.zoneout_memory, ZONES + 2 * site)
        self.directions = nn.ModuleList(
            CELLS[cell or settings.cell](inputs, settings)
            for _ in range(1 + settings.bidirectional)
        )

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, before: LayerState | None = None
    ) -> tuple[Tensor, LayerState]:
        """x [T, B, I], lengths [B] in 1..T, keys [B], the state before or None for 0 -> states
        [T, B, D*H], 0 past a row's length, and the state after."""
        directions, units = len(self.directions), self.cells[0].units
        carried = before is not None
        if before is None:
            zero = x.new_zeros(directions, x.shape[1], units)
            before = LayerState(zero, zero)
        zones = self.zoneout(keys, len(x), directions * units)
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(x.device.type)
        kind = self.cells[0].kind
        if self.native and kernels.runs(
            kind, x.device, dtype, zoned=zones is not None, carried=carried
        ):
            parts = [(c.input, c.recurrent(), c.bias, c.apart()) for c in self.cells]
            weights = kernels.Weights(*map(torch.stack, zip(*parts, strict=True)))
            y, c = kernels.scan(kind, x.to(dtype), lengths, weights, *before, zones)
        else:
            y, c = self._in_torch(x, lengths, before, zones)
        rows = torch.arange(len(lengths), device=x.device)
        last = [y[lengths - 1, rows, :units], y[0, :, units:]][:directions]
        return y, LayerState(torch.stack(last), c)

    @property
    def cells(self) -> list[Cell]:
        return list(self.directions)  # type: ignore[arg-type]

    def _in_torch(
        self, x: Tensor, lengths: Tensor, before: LayerState, zones: Zones | None
    ) -> tuple[Tensor, Tensor]:
        """The backward direction runs forward over a copy in which each row is reversed by its own
        length. Padding thus always comes after the tokens, where it cannot reach them, and neither
        direction needs packed sequences, which would leave the fast kernels.
        """
        reverse = reversal(lengths, x.shape[0])
        states, memory = [], []
        for d, cell in enumerate(self.cells):
            h, c, turned = before.h[d], before.c[d], x
            if d:
                turned = Permute.apply(x, reverse)
            if zones is None:
                y, c = cell.layer(turned, h, c)  # [T, B, H]
            else:
                own = [zone.chunk(len(self.cells), -1)[d] for zone in zones]
                y, c = cell.loop(
                    turned, h, c, Zones(*(Permute.apply(z, reverse) if d else z for z in own))
                )
            states.append(Permute.apply(y, reverse) if d else y)
            memory.append(c)
        y = torch.cat(states, -1) if len(states) == 2 else states[0]
        # Padding has moved the memory of a row that is shorter: better nothing than a wrong one.
        whole = (lengths == len(x))[:, None]
        c = torch.where(whole, torch.stack(memory), float("nan"))
        return y * valid(lengths, len(x))[..., None], c


class Stack(nn.Module):
    """`layers` recurrent layers, each reading the states of the one below (Graves 2013).

    A bidirectional layer concatenates both directions (Schuster and Paliwal 1997), so the next
    layer sees both. Locked dropout lies between the layers; `layer_norm` normalizes what each layer
    reads (Ba et al. 2016); from the second layer on, `skip` adds what a layer reads to what it says
    (residual: He et al. 2016) or has a gate choose between them (highway: Srivastava et al. 2015).
    """

    def __init__(self, inputs: int, settings: ModelSettings, site: int = 0) -> None:
        super().__init__()
        self.outputs = settings.hidden * (1 + settings.bidirectional)
        widths = [inputs] + [self.outputs] * (settings.layers - 1)
        self.layers = nn.ModuleList(
            Layer(width, settings, site + i) for i, width in enumerate(widths)
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if settings.layer_norm else nn.Identity() for width in widths
        )
        self.skips = nn.ModuleList(SKIPS[settings.skip](self.outputs) for _ in widths[1:])
        self.dropouts = nn.ModuleList(
            LockedDropout(settings.dropout, site + i) for i in range(settings.layers - 1)
        )

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, before: Sequence[LayerState | None] = ()
    ) -> tuple[Tensor, list[LayerState]]:
        """x [T, B, I], lengths [B] in 1..T, keys [B], the states of all layers before, if any ->
        states [T, B, D*H], 0 past a length, and the states of all layers after."""
        states = list(before) or [None] * len(self.layers)
        x, after = self.layers[0](self.norms[0](x), lengths, keys, states[0])
        carried = [after]
        above = zip(
            self.layers[1:], self.norms[1:], self.skips, self.dropouts, states[1:], strict=True
        )
        for layer, norm, skip, dropout, state in above:
            below = dropout(x, keys)
            x, after = layer(norm(below), lengths, keys, state)
            x = skip(below, x)
            carried.append(after)
        return x, carried

    def parts(self) -> list[list[nn.Parameter]]:
        """The parameters of each layer, the lowest first."""
        skips = [nn.Identity(), *self.skips]
        layers = zip(self.layers, self.norms, skips, strict=True)
        return [[p for module in of for p in module.parameters()] for of in layers]


class Plain(nn.Module):
    """What the layer says."""

    def __init__(self, features: int) -> None:
        super().__init__()

    def forward(self, below: Tensor, above: Tensor) -> Tensor:
        """What a layer reads and what it says [T, B, D*H] -> what the next one reads."""
        return above


class Residual(Plain):
    """Their sum."""

    def forward(self, below: Tensor, above: Tensor) -> Tensor:
        return below + above


class Highway(Plain):
    """Some of each, by a gate g of what the layer reads: g above + (1 - g) below. The gate lets
    one part in eight of the layer through at first (bias -2)."""

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.gate = nn.Linear(features, features)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, below: Tensor, above: Tensor) -> Tensor:
        return torch.lerp(below.to(above.dtype), above, self.gate(below).sigmoid().to(above.dtype))


SKIPS = {"none": Plain, "residual": Residual, "highway": Highway}


def reversal(lengths: Tensor, steps: int) -> Tensor:
    """Where each (t, b) of a [T, B] batch comes from when every row is reversed by its length.

    lengths [B] -> [T*B] indices into the flattened batch; padding stays where it is. The
    permutation is its own inverse.
    """
    t = torch.arange(steps, device=lengths.device)[:, None]  # [T, 1]
    source = torch.where(t < lengths, lengths - 1 - t, t)  # [T, B]
    return (source * len(lengths) + torch.arange(len(lengths), device=lengths.device)).flatten()


class Permute(torch.autograd.Function):
    """Reorder the (t, b) of x [T, B, F] by a permutation that is its own inverse.

    So the gradient is a gather too, where autograd would scatter and add.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return x.flatten(0, 1).index_select(0, index).view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return Permute.apply(grad, index), None
