"""Defaults that follow from the size of the training split: token budget, epochs, learning rate.

A small corpus gets a smaller token budget, more epochs and a higher learning rate; a large corpus
gets the declared defaults. The values depend on the settings and the dataset's manifest, never on
the number of processes. `docs/models.md` has the measurements.
"""

import math
from collections.abc import Mapping
from typing import Any

from pipeline import tasks
from pipeline.config.schema import Config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.optim.settings import OptimizerSettings
from pipeline.stream.settings import StreamSettings

UPDATES_PER_EPOCH = 50
"""Updates per epoch that a small token budget ensures, unless it is already `MIN_BUDGET`."""
UPDATES = 600
"""Updates of a run that the number of epochs ensures, unless it is already `MAX_EPOCHS`."""
MIN_BUDGET = 512
MAX_EPOCHS = 50
SHORT_LR = 3e-3
"""Peak learning rate of a run that needs more than one epoch to reach `UPDATES`."""

KEYS = ("stream.token_budget", "train.epochs", "train.lr")


def size_defaults(config: Config, manifest: Manifest) -> dict[str, Any]:
    """Return the values of the keys that the config does not set, by dotted key.

    There are none for unprepared rows, whose number is unknown, and no budget if
    `stream.batch_rows` is in use.
    """
    split = manifest.splits.get("train")
    unset = {key for key in KEYS if not _is_set(config, key)}
    if split is None or not unset:
        return {}
    stream = config.stream
    tokens, rows = split.tokens * stream.repeat, split.rows * stream.repeat
    budget = stream.token_budget
    if "stream.token_budget" in unset:
        budget = token_budget(tokens, config.corpus.max_tokens * stream.accumulation_steps)
    if not stream.batch_rows:
        updates = tokens / budget
    elif tasks.get(config.task.name).stateful:
        updates = tokens / (stream.batch_rows * stream.bptt_length)
    else:
        updates = rows / stream.batch_rows
    values = {
        "stream.token_budget": budget,
        "train.epochs": epochs(updates),
        "train.lr": learning_rate(updates),
    }
    if stream.batch_rows:
        del values["stream.token_budget"]
    return {key: value for key, value in values.items() if key in unset}


def token_budget(tokens: float, smallest: int) -> int:
    """Return the largest power of two with which an epoch has `UPDATES_PER_EPOCH` updates.

    It is at most the declared default, and at least `MIN_BUDGET` and `smallest`, the budget that
    the longest row needs.

    >>> token_budget(5_747, 400), token_budget(200_000, 400), token_budget(10_000_000, 400)
    (512, 2048, 16384)
    """
    default = int(StreamSettings.model_fields["token_budget"].default)
    budget = 2 ** int(math.log2(max(tokens / UPDATES_PER_EPOCH, 1)))
    return max(min(budget, default), MIN_BUDGET, smallest)


def epochs(updates_per_epoch: float) -> int:
    """Return the smallest number of epochs with enough updates, between 1 and `MAX_EPOCHS`.

    >>> epochs(11.2), epochs(80), epochs(10_000)
    (50, 8, 1)
    """
    return max(min(math.ceil(UPDATES / updates_per_epoch), MAX_EPOCHS), 1)


def learning_rate(updates_per_epoch: float) -> float:
    """Return the declared default if one epoch has `UPDATES` updates, otherwise `SHORT_LR`."""
    default = float(OptimizerSettings.model_fields["lr"].default)
    return default if updates_per_epoch >= UPDATES else SHORT_LR


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a copy of the config with `values`, by dotted key."""
    for key, value in values.items():
        section, _, name = key.partition(".")
        changed = getattr(config, section).model_copy(update={name: value})
        config = config.model_copy(update={section: changed})
    return config


def _is_set(config: Config, key: str) -> bool:
    section, _, name = key.partition(".")
    return name in getattr(config, section).model_fields_set
