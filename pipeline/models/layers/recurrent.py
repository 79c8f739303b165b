"""Recurrent layers whose outputs do not depend on padding, and the connections between them.

Shapes: T tokens of the longest row, B rows, I input features, H hidden units, D directions.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pipeline import components, kernels
from pipeline.kernels import Zones
from pipeline.models.cell import Cell
from pipeline.models.dropout import Zoneout, assign_dropout_sites
from pipeline.models.layers.masks import valid
from pipeline.models.settings import ModelSettings


class LayerState(NamedTuple):
    """A layer's recurrent state after each row's last token, with which it can resume."""

    h: Tensor
    """[D, B, H]: hidden states."""
    c: Tensor
    """[D, B, H]: LSTM's memory. For rows shorter than T it is NaN if PyTorch operations ran. The
    C++ loop computes it; on a CPU with a compiler it always runs if an initial state is given."""


class Layer(nn.Module):
    """One recurrent layer in one or two directions."""

    def __init__(
        self, inputs: int, settings: ModelSettings, *, bidirectional: bool, cell: str = ""
    ) -> None:
        """Build `cell`, or the settings' cell if it is empty."""
        super().__init__()
        self.native = settings.native
        self.keeps_weights = False
        """Whether `forward` keeps the prepared weights in evaluation without gradients. They are
        prepared again after an in-place change, but not after a change through `Tensor.data`."""
        self._kept: kernels.Weights
        self._kept_version: tuple[Any, ...] = ()
        self.zoneout = Zoneout(*settings.zoneout_probabilities)
        cell_class = components.load("cell", cell or settings.cell)
        self.directions = nn.ModuleList(
            cell_class(inputs, settings) for _ in range(1 + bidirectional)
        )
        assign_dropout_sites(self)

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, initial: LayerState | None = None
    ) -> tuple[Tensor, LayerState]:
        """Run over a padded batch.

        Takes x [T, B, I], lengths [B] in 1..T, dropout keys [B] and the initial state (None:
        zeros). Returns the hidden states [T, B, D*H], 0 past a row's length, and the final state.
        """
        directions, units = len(self.directions), self.cells[0].units
        has_initial = initial is not None
        if initial is None:
            zero = x.new_zeros(directions, x.shape[1], units)
            initial = LayerState(zero, zero)
        zones = self.zoneout(keys, len(x), directions * units)
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type) and dtype != torch.float64:
            dtype = torch.get_autocast_dtype(x.device.type)
        x = x.to(dtype)
        name = self.cells[0].kernel
        if (
            name
            and self.native
            and kernels.should_use(
                name, x.device, dtype, zoneout=zones is not None, initial_state=has_initial
            )
        ):
            y, c = kernels.scan(name, x, lengths, self._weights(dtype), *initial, zones)
        else:
            y, c = self._run_torch(x, lengths, initial, zones)
        rows = torch.arange(len(lengths), device=x.device)
        last = [y[lengths - 1, rows, :units], y[0, :, units:]][:directions]
        return y, LayerState(torch.stack(last), c)

    def _weights(self, dtype: torch.dtype) -> kernels.Weights:
        """Return the weights of all directions; prepared ones if the layer keeps them."""
        keep = self.keeps_weights and not self.training and not torch.is_grad_enabled()
        version = (dtype, *((p.data_ptr(), p._version) for p in self.parameters())) if keep else ()
        if keep and version == self._kept_version:
            return self._kept
        weights = kernels.Weights(
            torch.stack([cell.input for cell in self.cells]),
            torch.stack([cell.recurrent_weight() for cell in self.cells]),
            torch.stack([cell.bias for cell in self.cells]),
            torch.stack([cell.candidate_bias() for cell in self.cells]),
        )
        if keep:
            weights = self._kept = kernels.prepare(weights, dtype)
            self._kept_version = version
        return weights

    @property
    def cells(self) -> list[Cell]:
        """The cells of all directions, as a typed list."""
        return list(self.directions)  # type: ignore[arg-type]

    def _run_torch(
        self, x: Tensor, lengths: Tensor, initial: LayerState, zones: Zones | None
    ) -> tuple[Tensor, Tensor]:
        """Run by PyTorch operations.

        The backward direction runs forward over a copy in which each row is reversed within its own
        length. Padding thus always comes after the tokens and cannot affect them, and neither
        direction needs packed sequences, which would disable the fast kernels.
        """
        reverse = reversal(lengths, x.shape[0])
        states, memory = [], []
        for d, cell in enumerate(self.cells):
            h, c, tokens = initial.h[d], initial.c[d], x
            if d:
                tokens = Permute.apply(x, reverse)
            if zones is None:
                y, c = cell.run_fused(tokens, h, c)  # [T, B, H]
            else:
                own_zones = [zone.chunk(len(self.cells), -1)[d] for zone in zones]
                if d:
                    own_zones = [Permute.apply(zone, reverse) for zone in own_zones]
                y, c = cell.run_stepwise(tokens, h, c, Zones(*own_zones))
            states.append(Permute.apply(y, reverse) if d else y)
            memory.append(c)
        y = torch.cat(states, -1) if len(states) == 2 else states[0]
        # The memory of a shorter row was changed by padding: NaN is better than a wrong value.
        has_full_length = (lengths == len(x))[:, None]
        c = torch.where(has_full_length, torch.stack(memory), float("nan"))
        # Not a product: padding may hold infinities.
        return torch.where(valid(lengths, len(x))[..., None], y, 0), c


class Skip(nn.Module):
    """Connection between layers. This base class has none: the next layer reads `above` alone."""

    def __init__(self, features: int) -> None:
        super().__init__()

    def forward(self, below: Tensor, above: Tensor) -> Tensor:
        """Combine a layer's input and output, both [T, B, D*H], into the next layer's input."""
        return above


class Residual(Skip):
    """Residual connection: below + above."""

    def forward(self, below: Tensor, above: Tensor) -> Tensor:
        return below + above


class Highway(Skip):
    """Highway connection: g above + (1 - g) below, with a gate g computed from `below`.

    The gate's bias starts at -2, which lets about one eighth of `above` through.
    """

    def __init__(self, features: int) -> None:
        super().__init__(features)
        self.gate = nn.Linear(features, features)
        nn.init.constant_(self.gate.bias, -2.0)

    def forward(self, below: Tensor, above: Tensor) -> Tensor:
        return torch.lerp(below.to(above.dtype), above, self.gate(below).sigmoid().to(above.dtype))


SKIPS = {"none": Skip, "residual": Residual, "highway": Highway}
"""Skip connections by their name in a config."""


def reversal(lengths: Tensor, steps: int) -> Tensor:
    """Return the permutation that reverses each row of a [T, B] batch within its own length.

    Takes lengths [B] and T = `steps`. Returns [T*B] indices into the flattened batch; padding stays
    where it is. The permutation is its own inverse.
    """
    t = torch.arange(steps, device=lengths.device)[:, None]  # [T, 1]
    source = torch.where(t < lengths, lengths - 1 - t, t)  # [T, B]
    return (source * len(lengths) + torch.arange(len(lengths), device=lengths.device)).flatten()


class Permute(torch.autograd.Function):
    """Reorder the tokens of x [T, B, F] by a permutation [T*B] that is its own inverse.

    The gradient is thus a gather too, where autograd would use a slower scatter-add.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        return x.flatten(0, 1).index_select(0, index).view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        return Permute.apply(grad, index), None
