"""The recurrent network that a config names."""

from torch import nn

from pipeline.models.layers.grid import GridStack
from pipeline.models.layers.grid_image import ImageStack
from pipeline.models.layers.independent_directions import IndependentDirections
from pipeline.models.layers.recurrent import Stack
from pipeline.models.settings import ModelSettings


def encoder(
    inputs: int, settings: ModelSettings, site: int = 0, plane: tuple[int, int] = (0, 0)
) -> Stack | IndependentDirections | GridStack | ImageStack:
    """`inputs` features a token; its dropouts have the places `site` and following. A grid of three
    dimensions takes tokens that are the places of a `plane` of so many rows and columns."""
    if settings.independent_directions or settings.reverse:
        return IndependentDirections(inputs, settings, site)
    if settings.cell != "grid_lstm":
        return Stack(inputs, settings, site)
    if settings.grid_dimensions == 3:
        return ImageStack(inputs, settings, plane, site)
    return GridStack(inputs, settings, site)


def from_the_top(model: nn.Module) -> list[list[nn.Parameter]]:
    """A model's parameters by their depth: what reads its recurrent layers, these from the last to
    the first, and what they read."""
    stack = model.get_submodule("stack")
    assert isinstance(stack, Stack | IndependentDirections), (
        "the layers of a grid may share weights"
    )
    head, below = [], []
    for name, parameter in model.named_parameters():
        if name.startswith(("embedding.", "characters.")):
            below.append(parameter)
        elif not name.startswith("stack."):
            head.append(parameter)
    return [head, *reversed(stack.parameters_by_layer()), below]
