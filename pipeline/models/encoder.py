"""Construction of the recurrent encoder, and grouping of parameters by depth."""

from torch import nn

from pipeline.models.cells.grid_lstm import GridLstm
from pipeline.models.layers.grid import GridStack
from pipeline.models.layers.grid_image import ImageStack
from pipeline.models.layers.independent_directions import IndependentDirections
from pipeline.models.layers.recurrent import Stack
from pipeline.models.settings import ModelSettings


def encoder(
    inputs: int, settings: ModelSettings, image_size: tuple[int, int] = (0, 0)
) -> Stack | IndependentDirections | GridStack | ImageStack:
    """Build the recurrent stack that the settings select.

    `inputs` is the number of features per token. A three-dimensional grid also needs `image_size`,
    the (rows, columns) of an image's grid of positions; each position is one token.
    """
    # A reversed single direction is the backward half of independent directions.
    if settings.independent_directions or settings.reverse:
        return IndependentDirections(inputs, settings)
    if not isinstance(settings, GridLstm.Settings):
        return Stack(inputs, settings)
    if settings.grid_dimensions == 3:
        return ImageStack(inputs, settings, image_size)
    return GridStack(inputs, settings)


def parameters_by_depth(model: nn.Module) -> list[list[nn.Parameter]]:
    """Group a model's parameters by depth: the head, the recurrent layers from the top down, and
    the embeddings.

    The model must have a submodule `stack`, which may not be a grid. Parameters below `embedding`
    and `characters` are embeddings.
    """
    stack = model.get_submodule("stack")
    assert isinstance(stack, Stack | IndependentDirections), (
        "layers of a grid may share weights and cannot be grouped by depth"
    )
    head, embeddings = [], []
    for name, parameter in model.named_parameters():
        if name.startswith(("embedding.", "characters.")):
            embeddings.append(parameter)
        elif not name.startswith("stack."):
            head.append(parameter)
    return [head, *reversed(stack.parameters_by_layer()), embeddings]
