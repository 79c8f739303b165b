"""User-fixable errors. Each line gives the key or file, the value, what is wrong and what to do.

Any other exception is a defect of Headrace and keeps its traceback.
"""

from collections.abc import Iterable


class HeadraceError(Exception):
    """A user's mistake, or a condition outside the program; the CLI prints it and exits with 2.

    Most of them occur on all ranks, and the first rank of each node prints the lines. `local` marks
    an error that may have occurred on this rank only.
    """

    local = False

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = [lines] if isinstance(lines, str) else list(lines)
        super().__init__("\n".join(self.lines))


class ConfigError(HeadraceError):
    """A setting that is misspelled, of the wrong type, out of range or in conflict with another."""


class InputError(HeadraceError):
    """Raw data that cannot be read or does not contain what the config names."""


class DatasetError(HeadraceError):
    """Prepared shards that are missing, damaged or made with other settings."""


class RunError(HeadraceError):
    """A run folder that is in use, belongs to another config or has no usable checkpoint."""


class TrainingError(HeadraceError):
    """Training that cannot continue: a non-finite loss, an unsupported precision or world size."""
