"""The errors that a user can mend. Each line says what, which value, why it matters, what to do.

Anything else that is raised is a defect of Headrace and keeps its traceback.
"""

from collections.abc import Iterable


class HeadraceError(Exception):
    """A mistake or a circumstance outside the program; `launch/` prints it and exits with 2.

    All ranks of a run meet most of them, and the first of each node prints the lines; `local` is
    set on one that this rank may have met alone.
    """

    local = False

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = [lines] if isinstance(lines, str) else list(lines)
        super().__init__("\n".join(self.lines))


class ConfigError(HeadraceError):
    """A setting that is misspelt, of the wrong type, out of range or at odds with another."""


class InputError(HeadraceError):
    """Raw data that cannot be read or does not hold what the config says."""


class DatasetError(HeadraceError):
    """Prepared shards that are missing, damaged or made by other settings."""


class RunError(HeadraceError):
    """A run folder that is in use, belongs to another config or holds no usable checkpoint."""


class TrainingError(HeadraceError):
    """A run that cannot go on: a non-finite loss, a precision or world size out of reach."""
