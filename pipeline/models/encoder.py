"""The recurrent network that a config names."""

from pipeline.models.directions import Separate
from pipeline.models.grid import GridStack
from pipeline.models.grid_image import ImageStack
from pipeline.models.recurrent import Stack
from pipeline.models.settings import ModelSettings


def encoder(
    inputs: int, settings: ModelSettings, site: int = 0, plane: tuple[int, int] = (0, 0)
) -> Stack | Separate | GridStack | ImageStack:
    """`inputs` features a token; its dropouts have the places `site` and following. A grid of three
    dimensions takes tokens that are the places of a `plane` of so many rows and columns."""
    if settings.separate or settings.backward:
        return Separate(inputs, settings, site)
    if settings.cell != "grid_lstm":
        return Stack(inputs, settings, site)
    if settings.grid_dimensions == 3:
        return ImageStack(inputs, settings, plane, site)
    return GridStack(inputs, settings, site)
