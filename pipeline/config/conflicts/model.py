"""Rules for the model."""

from collections.abc import Iterator

from pipeline import components
from pipeline.config.conflicts.rule import Conflict, any_of, is_default
from pipeline.config.schema import Config
from pipeline.models.settings import KEY_TASKS


def model_conflicts(config: Config) -> Iterator[Conflict]:
    """Yield conflicts between the directions, and those of the cell."""
    model = config.model
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
    yield from components.load("cell", model.cell).conflicts(config)


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
