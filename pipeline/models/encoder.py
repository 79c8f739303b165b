"""Base class of encoders, and grouping of parameters by depth.

Shapes: T tokens of the longest row, B rows, I input features, F output features.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn

from pipeline import components
from pipeline.components import Component
from pipeline.models.settings import EncoderSettings

if TYPE_CHECKING:
    from pipeline.models.layers.recurrent import LayerState


class Encoder(Component, nn.Module, ABC):
    """Layers that map the embedded tokens of a row to a state of each token.

    The states of a row must not depend on its padding or on the other rows of its batch.
    """

    Settings: ClassVar[type[EncoderSettings]] = EncoderSettings
    """The encoder's keys in the section `model`."""
    has_state: ClassVar[bool] = False
    """Whether the encoder returns the final state of each layer and resumes from it, as language
    modeling and translation need."""
    outputs: int
    """F"""

    def __init__(
        self, inputs: int, settings: EncoderSettings, plane: tuple[int, int] = (0, 0)
    ) -> None:
        """`inputs` is I. `plane` is the number of rows and columns if the tokens are the steps of
        images, row by row."""
        super().__init__()

    @classmethod
    def build(
        cls, inputs: int, settings: EncoderSettings, plane: tuple[int, int] = (0, 0)
    ) -> "Encoder":
        """Return an encoder; overridden where the settings choose between several classes."""
        return cls(inputs, settings, plane)

    @abstractmethod
    def forward(
        self,
        x: Tensor,
        lengths: Tensor,
        keys: Tensor,
        initial: "Sequence[LayerState | None]" = (),
    ) -> "tuple[Tensor, list[LayerState]]":
        """Encode a padded batch.

        Takes x [T, B, I], lengths [B] in 1..T, dropout keys [B] and each layer's initial state
        (empty: zeros). Returns the states [T, B, F], 0 past a row's length, and each layer's final
        state, empty unless `has_state`.
        """

    def parameters_by_layer(self) -> list[list[nn.Parameter]]:
        """Return each layer's parameters, from the lowest layer to the highest.

        A single group if the encoder has no such order.
        """
        return [list(self.parameters())]


def encoder(inputs: int, settings: EncoderSettings, plane: tuple[int, int] = (0, 0)) -> Encoder:
    """Build the encoder that the settings choose; arguments as for `Encoder`."""
    built = encoder_class(settings).build(inputs, settings, plane)
    components.require(built, "outputs")
    return built


def encoder_class(settings: EncoderSettings) -> type[Encoder]:
    """Return the class of the encoder that the settings choose: the cell may need a certain one."""
    name = components.load("cell", settings.cell).encoder or settings.encoder
    found: type[Encoder] = components.load("encoder", name)
    return found


def reversed_directions(settings: EncoderSettings) -> tuple[bool, ...]:
    """Return for each direction whether it reads from the end of the text."""
    return (False, True) if settings.bidirectional else (bool(getattr(settings, "reverse", False)),)


def parameters_by_depth(model: nn.Module) -> list[list[nn.Parameter]]:
    """Group a model's parameters by depth: the head, the recurrent layers from the top down, and
    the embeddings.

    The model must have an encoder `stack`. Parameters below `embedding` and `characters` are
    embeddings.
    """
    stack = model.get_submodule("stack")
    assert isinstance(stack, Encoder)
    head, embeddings = [], []
    for name, parameter in model.named_parameters():
        if name.startswith(("embedding.", "characters.")):
            embeddings.append(parameter)
        elif not name.startswith("stack."):
            head.append(parameter)
    return [head, *reversed(stack.parameters_by_layer()), embeddings]
