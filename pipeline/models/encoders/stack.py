"""Stacked recurrent layers.

Shapes: T tokens of the longest row, B rows, I input features, H hidden units, D directions.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from pipeline.models.dropout import LockedDropout, assign_dropout_sites
from pipeline.models.encoder import Encoder, reversed_directions
from pipeline.models.layers.independent_directions import IndependentDirections
from pipeline.models.layers.recurrent import SKIPS, Layer, LayerState
from pipeline.models.settings import EncoderSettings
from pipeline.settings import Conflict, Sections, setting


class Stack(Encoder):
    """`layers` recurrent layers, each reading the states of the layer below (Graves 2013).

    A bidirectional layer concatenates both directions (Schuster and Paliwal 1997), so the next
    layer sees both. Locked dropout is applied between layers. `layer_norm` normalizes each layer's
    input (Ba et al. 2016). From the second layer on, `skip` adds a layer's input to its output
    (residual: He et al. 2016) or mixes them by a gate (highway: Srivastava et al. 2015).
    """

    class Settings(EncoderSettings):
        independent_directions: bool = setting(
            False,
            "bidirectional: a separate stack for each direction, instead of layers that read both "
            "directions of the layer below",
        )
        reverse: bool = setting(False, "unidirectional: read from the end to the start")

    has_state = True

    def __init__(
        self, inputs: int, settings: EncoderSettings, plane: tuple[int, int] = (0, 0)
    ) -> None:
        super().__init__(inputs, settings, plane)
        self.outputs = settings.hidden * (1 + settings.bidirectional)
        widths = [inputs] + [self.outputs] * (settings.layers - 1)
        self.layers = nn.ModuleList(
            Layer(width, settings, bidirectional=settings.bidirectional) for width in widths
        )
        self.norms = nn.ModuleList(
            nn.LayerNorm(width) if settings.layer_norm else nn.Identity() for width in widths
        )
        self.skips = nn.ModuleList(SKIPS[settings.skip](self.outputs) for _ in widths[1:])
        self.dropouts = nn.ModuleList(
            LockedDropout(settings.dropout) for _ in range(settings.layers - 1)
        )
        assign_dropout_sites(self)

    @classmethod
    def build(cls, inputs: int, settings: Any, plane: tuple[int, int] = (0, 0)) -> Encoder:
        # A reversed single direction is the backward half of independent directions.
        if not (settings.independent_directions or settings.reverse):
            return cls(inputs, settings, plane)
        one = settings.model_copy(
            update={"bidirectional": False, "reverse": False, "independent_directions": False}
        )
        is_reversed = reversed_directions(settings)
        stacks = [cls(inputs, one, plane) for _ in is_reversed]
        return IndependentDirections(stacks, is_reversed)

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        model = config.model
        if model.independent_directions and not model.bidirectional:
            yield Conflict(
                "model.independent_directions",
                "needs two directions",
                "set model.bidirectional=true",
            )
        if model.reverse and model.bidirectional:
            yield Conflict(
                "model.reverse",
                "applies to a single direction, but model.bidirectional=true reads in both",
                "set only one of the two",
            )

    def forward(
        self, x: Tensor, lengths: Tensor, keys: Tensor, initial: Sequence[LayerState | None] = ()
    ) -> tuple[Tensor, list[LayerState]]:
        """Run all layers over a padded batch.

        Takes x [T, B, I], lengths [B] in 1..T, dropout keys [B] and each layer's initial state
        (empty: zeros). Returns the top layer's states [T, B, D*H], 0 past a row's length, and each
        layer's final state.
        """
        initial = list(initial) or [None] * len(self.layers)
        x, state = self.layers[0](self.norms[0](x), lengths, keys, initial[0])
        final = [state]
        upper_layers = zip(
            self.layers[1:], self.norms[1:], self.skips, self.dropouts, initial[1:], strict=True
        )
        for layer, norm, skip, dropout, layer_initial in upper_layers:
            below = dropout(x, keys)
            x, state = layer(norm(below), lengths, keys, layer_initial)
            x = skip(below, x)
            final.append(state)
        return x, final

    def parameters_by_layer(self) -> list[list[nn.Parameter]]:
        """Return each layer's parameters, from the lowest layer to the highest."""
        skips = [nn.Identity(), *self.skips]
        layers = zip(self.layers, self.norms, skips, strict=True)
        return [[p for module in modules for p in module.parameters()] for modules in layers]
