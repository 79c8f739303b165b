"""One YAML file and dotted overrides in, one checked and frozen `Config` out.

The sections are declared beside the code that they configure. Only `train`, `inference` and `cli`
import this package; the packages below are given their own sections.
"""

from pipeline.config.loading import BUNDLED, DEFAULT, dump, flatten, load, load_run_config
from pipeline.config.messages import help_text, keys
from pipeline.config.schema import Config

__all__ = [
    "BUNDLED",
    "DEFAULT",
    "Config",
    "dump",
    "flatten",
    "help_text",
    "keys",
    "load",
    "load_run_config",
]
