"""Shared by all rules: common conditions and messages."""

from collections.abc import Sequence

from pipeline.config.schema import Config
from pipeline.settings import Conflict, is_default
from pipeline.tasks.settings import IMAGE_TASKS

__all__ = [
    "MAX_ROW_TOKENS",
    "Conflict",
    "any_of",
    "input_column",
    "input_key",
    "is_default",
    "tokens_per_batch",
    "unused",
]

MAX_ROW_TOKENS = 65535
"""Upper limit of `corpus.max_tokens`."""


def unused(key: str, used_by: str, values: Sequence[str], value: str) -> Conflict:
    """Return the conflict of a key that only some `values` of the key `used_by` use, not `value`.

    >>> unused("model.activation", "model.cell", ["elman"], "gru").problem
    'applies only to model.cell=elman and would be ignored with model.cell=gru'
    """
    return Conflict(
        key,
        f"applies only to {used_by}={any_of(values)} and would be ignored with {used_by}={value}",
        f"remove it or change {used_by}",
    )


def any_of(names: Sequence[str]) -> str:
    """Join names for a message.

    >>> any_of(["elman", "lstm", "gru"])
    'elman, lstm or gru'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def input_key(config: Config) -> str:
    """Return the key that names the input column."""
    return "corpus.image" if config.task.name in IMAGE_TASKS else "corpus.text"


def input_column(config: Config) -> str:
    """Return the name of the input column."""
    return config.corpus.image if config.task.name in IMAGE_TASKS else config.corpus.text


def tokens_per_batch(config: Config) -> int:
    """Return the part of `stream.token_budget` that one batch of an update may use."""
    return config.stream.token_budget // config.stream.accumulation_steps
