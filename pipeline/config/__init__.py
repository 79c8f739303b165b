"""Configs: a YAML file with dotted overrides becomes a checked, frozen `Config`.

Each section is declared beside the code that it configures. Only `train`, `inference` and `cli`
import this package; lower layers receive their own section.
"""

from pipeline.config.changed import changed_settings
from pipeline.config.loading import (
    BUNDLED,
    DEFAULT,
    dump,
    flatten,
    help_text,
    load,
    load_run_config,
)
from pipeline.config.messages import as_yaml, keys, known_keys
from pipeline.config.schema import Config, component_sources
from pipeline.config.size_defaults import size_defaults, with_values

__all__ = [
    "BUNDLED",
    "DEFAULT",
    "Config",
    "as_yaml",
    "changed_settings",
    "component_sources",
    "dump",
    "flatten",
    "help_text",
    "keys",
    "known_keys",
    "load",
    "load_run_config",
    "size_defaults",
    "with_values",
]
