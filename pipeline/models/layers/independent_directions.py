"""Stacks of one direction each: one that reads from the end, or two side by side that never see
each other's states, as a language model's must not.

Legend: T tokens of the longest row, B rows, I input features, H hidden units, D directions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models.layers.recurrent import LayerState, Permute, Stack, reversal
from pipeline.models.settings import ModelSettings

SITES = 100
"""Places of the dropouts of one stack."""


class IndependentDirections(nn.Module):
    """The states of stacks that read forward or from a row's end, side by side (Peters et al.
    2018). Where a layer of a bidirectional `Stack` sees both directions of the one below, here it
    sees its own alone."""

    def __init__(self, inputs: int, settings: ModelSettings, site: int = 0) -> None:
        super().__init__()
        self.turned = settings.reversed_directions
        own = settings.model_copy(
            update={"bidirectional": False, "reverse": False, "independent_directions": False}
        )
        self.stacks = nn.ModuleList(
            Stack(inputs, own, site + SITES * number) for number in range(len(self.turned))
        )
        self.outputs = settings.hidden * len(self.stacks)

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, before: Sequence[LayerState | None] = ()
    ) -> tuple[Tensor, list[LayerState]]:
        """As `Stack`: x [T, B, I], lengths [B] in 1..T, keys [B], the states of all layers before,
        if any -> states [T, B, D*H], 0 past a length, and the states of all layers after."""
        reverse = reversal(lengths, len(x))
        states, carried = [], []
        for number, (stack, turned) in enumerate(zip(self.stacks, self.turned, strict=True)):
            own = [_direction(state, number) for state in before]
            y, after = stack(Permute.apply(x, reverse) if turned else x, lengths, keys, own)
            states.append(Permute.apply(y, reverse) if turned else y)
            carried.append(after)
        layers = zip(*carried, strict=True)  # of each layer its states in all directions
        return torch.cat(states, -1), [
            LayerState(*(torch.cat(parts) for parts in zip(*of, strict=True))) for of in layers
        ]

    def parts(self) -> list[list[nn.Parameter]]:
        """As `Stack.parts`."""
        stacks: list[Stack] = list(self.stacks)  # type: ignore[arg-type]
        of_stacks = zip(*(stack.parts() for stack in stacks), strict=True)
        return [[p for part in parts for p in part] for parts in of_stacks]


def _direction(state: LayerState | None, number: int) -> LayerState | None:
    """One direction's states."""
    return state and LayerState(*(part[number : number + 1] for part in state))
