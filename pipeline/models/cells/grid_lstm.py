"""Grid LSTM, as a choice of `model.cell`."""

from collections.abc import Iterator

from pipeline.models.cells.lstm import Lstm
from pipeline.settings import Conflict, Sections, is_default, setting

IGNORED_BY_IMAGE_GRID = (
    "bidirectional", "grid_priority", "layer_norm", "zoneout", "zoneout_memory", "permute",
)  # fmt: skip
"""Settings that a three-dimensional grid ignores."""


class GridLstm(Lstm):
    """The LSTM of each dimension of a Grid LSTM (Kalchbrenner et al. 2015).

    The encoder arranges these cells in a grid, see `pipeline.models.encoders.grid`; no other model
    uses this cell.
    """

    encoder = "grid"

    class Settings(Lstm.Settings):
        grid_dimensions: int = setting(
            2,
            "1 is depth only, so tokens do not interact; 2 is depth and time; 3 (images) is depth, "
            "rows and columns of an image",
            ge=1,
            le=3,
        )
        grid_tied: bool = setting(False, "share the weights between layers")
        grid_priority: bool = setting(
            True,
            "depth reads the states of the time dimension at the current token, not at the "
            "previous one",
        )

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        model = config.model
        if getattr(model, "encoder", "stack") not in ("stack", "grid"):
            yield Conflict(
                "model.encoder", "would be ignored, as grid_lstm is an encoder", "remove it"
            )
        for name in ("independent_directions", "reverse"):
            if getattr(model, name, False):
                yield Conflict(
                    f"model.{name}", "does not apply to grid_lstm", "remove it or change model.cell"
                )
        if model.skip != "none":
            yield Conflict(
                "model.skip",
                "grid_lstm already has a memory along depth that bypasses each layer",
                "remove it",
            )
        if model.grid_dimensions == 1 and model.zoneout:
            yield Conflict(
                "model.zoneout",
                "applies to states along time, but model.grid_dimensions=1 is depth only",
                "remove it or set model.grid_dimensions=2",
            )
        if model.grid_dimensions != 3:
            return
        step = getattr(config.corpus, "step", "")
        if not step:
            yield Conflict(
                "model.grid_dimensions",
                f"applies only to images, but the task is {config.task.name}",
                "set 2, or task.name=images",
            )
        elif step == "row":
            yield Conflict(
                "model.grid_dimensions",
                "scans the rows and columns of an image, but corpus.step=row has a whole row per "
                "step",
                "set corpus.step=patch or pixel",
            )
        for name in IGNORED_BY_IMAGE_GRID:
            if name in type(model).model_fields and not is_default(model, name):
                yield Conflict(
                    f"model.{name}",
                    "would be ignored with model.grid_dimensions=3, where each layer scans the "
                    "image from another corner",
                    "remove it or set model.grid_dimensions=2",
                )
