"""Stacks of one direction each: a single stack that reads from the end of a row, or two stacks, one
per direction, that never see each other's states, as a bidirectional language model requires.

Shapes: T tokens of the longest row, B rows, I input features, H hidden units, D directions.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.models.dropout import assign_dropout_sites
from pipeline.models.encoder import Encoder
from pipeline.models.layers.recurrent import LayerState, Permute, reversal


class IndependentDirections(Encoder):
    """Concatenated states of one stack per direction (Peters et al. 2018).

    In a bidirectional `Stack`, a layer reads both directions of the layer below; here it reads only
    its own direction.
    """

    has_state = True

    def __init__(self, stacks: Sequence[Encoder], is_reversed: Sequence[bool]) -> None:
        """`is_reversed` are whether each stack reads from the end of a row."""
        nn.Module.__init__(self)
        self.is_reversed = tuple(is_reversed)
        self.stacks = nn.ModuleList(stacks)
        self.outputs = sum(stack.outputs for stack in stacks)
        assign_dropout_sites(self)

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, initial: Sequence[LayerState | None] = ()
    ) -> tuple[Tensor, list[LayerState]]:
        """Run all stacks over a padded batch.

        As in `Stack`, takes x [T, B, I], lengths [B] in 1..T, dropout keys [B] and each layer's
        initial state (empty: zeros). Returns states [T, B, D*H], 0 past a row's length, and each
        layer's final state.
        """
        reverse = reversal(lengths, len(x))
        outputs, final_by_stack = [], []
        for d, (stack, is_reversed) in enumerate(zip(self.stacks, self.is_reversed, strict=True)):
            stack_initial = [_select_direction(state, d) for state in initial]
            tokens = Permute.apply(x, reverse) if is_reversed else x
            y, final = stack(tokens, lengths, keys, stack_initial)
            outputs.append(Permute.apply(y, reverse) if is_reversed else y)
            final_by_stack.append(final)
        return torch.cat(outputs, -1), [
            LayerState(*(torch.cat(parts) for parts in zip(*directions, strict=True)))
            for directions in zip(*final_by_stack, strict=True)  # a layer's states of all stacks
        ]

    def parameters_by_layer(self) -> list[list[nn.Parameter]]:
        """Return each layer's parameters of all stacks, from the lowest layer to the highest."""
        stacks: list[Encoder] = list(self.stacks)  # type: ignore[arg-type]
        layers = zip(*(stack.parameters_by_layer() for stack in stacks), strict=True)
        return [[p for parameters in layer for p in parameters] for layer in layers]


def _select_direction(state: LayerState | None, d: int) -> LayerState | None:
    """Return one direction of a layer's state, or None."""
    return state and LayerState(*(tensor[d : d + 1] for tensor in state))
