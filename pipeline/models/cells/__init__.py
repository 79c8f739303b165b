"""Recurrent cells, one per file."""

from pipeline.models.cells.cell import Cell
from pipeline.models.cells.elman import Elman
from pipeline.models.cells.goru import Goru
from pipeline.models.cells.gru import Gru
from pipeline.models.cells.lstm import Lstm

__all__ = ["CELLS", "Cell"]

CELLS: dict[str, type[Cell]] = {"elman": Elman, "lstm": Lstm, "gru": Gru, "goru": Goru}
"""Cell classes by their name in a config."""
