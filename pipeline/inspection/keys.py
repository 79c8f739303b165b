"""Keys of a config with the reason for each value."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Key:
    """The value of a config key, and why it has this value."""

    value: Any
    why: str = ""


Keys = dict[str, Key]
"""Keys of the section `corpus`, by name."""
