"""Rules for the model."""

from collections.abc import Iterator

from pipeline.config.conflicts.rule import Conflict, any_of, is_default, unused
from pipeline.config.schema import Config
from pipeline.models.settings import IGNORED_BY_IMAGE_GRID, KEY_CELLS, KEY_TASKS, ModelSettings


def model_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts between the cell, the directions and the cell's options."""
    model = config.model
    for name, cells in KEY_CELLS.items():
        if model.cell not in cells and not is_default(model, name):
            yield unused(f"model.{name}", "model.cell", cells, model.cell)
    if model.independent_directions and not model.bidirectional:
        yield Conflict(
            "model.independent_directions", "needs two directions", "set model.bidirectional=true"
        )
    if model.reverse and model.bidirectional:
        yield Conflict(
            "model.reverse",
            "applies to a single direction, but model.bidirectional=true reads in both",
            "set only one of the two",
        )
    if model.recurrent_init == "identity" and model.activation == "tanh":
        yield Conflict(
            "model.recurrent_init",
            "the state decays at once with model.activation=tanh",
            "set model.activation=relu",
        )
    if model.cell == "goru":
        yield from _goru_conflicts(model)
    if model.cell == "grid_lstm":
        yield from _grid_conflicts(config)


def _goru_conflicts(model: ModelSettings) -> Iterator[Conflict]:
    for name in ("hidden", "characters"):
        units = getattr(model, name)
        if units == 1:
            yield Conflict(f"model.{name}", "goru rotates pairs of units", "set 2 or more")
        if not model.goru_capacity and units & (units - 1):
            lower = 1 << (units.bit_length() - 1)
            yield Conflict(
                f"model.{name}",
                "must be a power of two in the FFT style of goru (model.goru_capacity=0)",
                f"set model.{name}={lower} or {2 * lower}, or an even model.goru_capacity",
            )
    if model.goru_capacity % 2:
        yield Conflict(
            "model.goru_capacity",
            "must be even: rotation layers come in pairs, because a single one connects each unit "
            "to only one neighbor",
            f"set {model.goru_capacity + 1}",
        )


def _grid_conflicts(config: Config) -> Iterator[Conflict]:
    model, task = config.model, config.task.name
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
    if task != "images":
        yield Conflict(
            "model.grid_dimensions",
            f"applies only to images, but the task is {task}",
            "set 2, or task.name=images",
        )
    elif config.corpus.step == "row":
        yield Conflict(
            "model.grid_dimensions",
            "scans the rows and columns of an image, but corpus.step=row has a whole row per step",
            "set corpus.step=patch or pixel",
        )
    for name in IGNORED_BY_IMAGE_GRID:
        if not is_default(model, name):
            yield Conflict(
                f"model.{name}",
                "would be ignored with model.grid_dimensions=3, where each layer scans the image "
                "from another corner",
                "remove it or set model.grid_dimensions=2",
            )


def pretraining_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts with pretrained weights and with settings that fine-tune layer by layer."""
    model, task = config.model, config.task.name
    tasks = KEY_TASKS["init_from"]
    for name in ("layer_decay", "unfreeze"):
        if is_default(config.train, name):
            continue
        if task not in tasks:
            yield Conflict(
                f"train.{name}",
                f"applies only to task.name={any_of(tasks)}, whose models are one embedding and "
                f"one stack of layers, but the task is {task}",
                "remove it",
            )
        elif model.cell == "grid_lstm":
            yield Conflict(
                f"train.{name}",
                "treats each layer differently, but layers of grid_lstm may share their weights",
                "remove it or change model.cell",
            )
    if model.init_from and model.word_vectors:
        yield Conflict(
            "model.word_vectors",
            "model.init_from already provides the embedding",
            "remove one of the two",
        )
