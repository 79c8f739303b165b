"""The recurrent network that a config names."""

from pipeline.models.grid import GridStack
from pipeline.models.recurrent import Stack
from pipeline.models.settings import ModelSettings


def encoder(inputs: int, settings: ModelSettings, site: int = 0) -> Stack | GridStack:
    """`inputs` features a token; its dropouts have the places `site` and following."""
    return (GridStack if settings.cell == "grid_lstm" else Stack)(inputs, settings, site)
