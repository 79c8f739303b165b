"""One YAML file and dotted overrides in, one checked and frozen `Config` out.

The sections are declared beside what they configure. Only `train` and `launch` may import this
package; the layers below are handed their own section.
"""

from pipeline.config.loading import DEFAULT, dump, flatten, help_text, keys, load
from pipeline.config.schema import Config

__all__ = ["DEFAULT", "Config", "dump", "flatten", "help_text", "keys", "load"]
