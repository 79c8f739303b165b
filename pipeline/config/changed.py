"""The settings of a run that differ from their defaults."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.defaults import dependent_defaults
from pipeline.config.loading import flatten
from pipeline.config.messages import keys
from pipeline.config.schema import Config

NOT_COMPARED = ("run.", "track.", "corpus.shards")
"""Prefixes of keys that do not affect training: names, paths and trackers."""


def changed_settings(config: Config, chosen: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the default of each key that has another value, in the order of declaration.

    The defaults of the task count as defaults. So do the values in `chosen`, by dotted key, which
    follow from the size of the corpus. The default of a required key is None.
    """
    defaults = {
        key: None if field.is_required() else field.get_default(call_default_factory=True)
        for key, field in keys(type(config))
    }
    defaults |= dependent_defaults(config.model_dump()) | dict(chosen or {})
    return {
        key: defaults[key]
        for key, value in flatten(config).items()
        if value != defaults[key] and not key.startswith(NOT_COMPARED)
    }
