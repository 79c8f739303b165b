"""Conflicts between settings: values that are valid alone but do not work together.

Each module has the rules for one part of a config. A rule yields a `Conflict`.
"""

from collections.abc import Iterator
from functools import reduce

from pipeline import components
from pipeline.config.conflicts.data import batch_conflicts, corpus_conflicts, unprepared_conflicts
from pipeline.config.conflicts.image import image_conflicts
from pipeline.config.conflicts.model import model_conflicts, pretraining_conflicts
from pipeline.config.conflicts.rule import Conflict
from pipeline.config.conflicts.task import (
    language_modeling_conflicts,
    seq2seq_conflicts,
    task_conflicts,
    translation_conflicts,
)
from pipeline.config.messages import as_yaml
from pipeline.config.schema import Config
from pipeline.tasks.settings import IMAGE_TASKS


def conflicts(config: Config) -> Iterator[str]:
    """Yield a line `<key>=<value>: <what is wrong>; <what to do>` for each conflict."""
    for key, problem, remedy in _all_conflicts(config):
        value = reduce(getattr, key.split("."), config)
        yield f"{key}={as_yaml(value)}: {problem}; {remedy}"


def _all_conflicts(config: Config) -> Iterator[Conflict]:
    task = config.task.name
    yield from batch_conflicts(config)
    yield from corpus_conflicts(config)
    yield from model_conflicts(config)
    yield from pretraining_conflicts(config)
    optimizer = components.load("optimizer", config.train.optimizer)
    if optimizer.has_average and config.train.ema_decay:
        yield Conflict(
            "train.ema_decay",
            f"{config.train.optimizer} has an average of its own",
            "set 0, or another train.optimizer",
        )
    yield from optimizer.conflicts(config)
    yield from components.load("schedule", config.train.schedule).conflicts(config)
    yield from task_conflicts(config)
    if task == "language_modeling":
        yield from language_modeling_conflicts(config)
    if task in ("translation", "captioning"):
        yield from seq2seq_conflicts(config)
    if task == "translation":
        yield from translation_conflicts(config)
    if task in IMAGE_TASKS:
        yield from image_conflicts(config)
    if config.stream.unprepared_rows:
        yield from unprepared_conflicts(config)
