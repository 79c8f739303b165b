"""User-fixable errors. Each line gives the key or file, the value, what is wrong and what to do.

Any other exception is a defect of Headrace and keeps its traceback.
"""

import re
from collections.abc import Iterable

MAX_LINE = 2000
"""Characters of a line. The value in the middle of a longer one is shortened."""
_END = 500
_LINE_BREAK = re.compile(r"\s*[\n\r]\s*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class HeadraceError(Exception):
    """A user's mistake, or a condition outside the program; the CLI prints it.

    Each of its lines stays one line of readable length, whatever values it quotes.

    Most of them occur on all ranks, and the first rank of each node prints the lines. `local` marks
    an error that may have occurred on this rank only.
    """

    local = False
    exit_status = 2
    restart = False
    """Whether the same command may succeed without a change by the user."""

    def __init__(self, lines: str | Iterable[str]) -> None:
        self.lines = [_one_line(line) for line in ([lines] if isinstance(lines, str) else lines)]
        super().__init__("\n".join(self.lines))


def _one_line(text: str) -> str:
    """Return a text in one line, with control characters as escape sequences."""
    if len(text) > MAX_LINE:
        text = f"{text[: MAX_LINE - _END]} ... {text[-_END:]}"
    text = _LINE_BREAK.sub(" ", text)
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class ConfigError(HeadraceError):
    """A setting that is misspelled, of the wrong type, out of range or in conflict with another."""


class InputError(HeadraceError):
    """Raw data that cannot be read or does not contain what the config names."""


class DatasetError(HeadraceError):
    """Prepared shards that are missing, damaged or made with other settings."""


class RunError(HeadraceError):
    """A run folder that is in use, belongs to another config or has no usable checkpoint."""


class TrainingError(HeadraceError):
    """Training that cannot continue: an unsupported precision or world size."""


class DivergedError(TrainingError):
    """Training whose loss or gradients are not finite; the same command would diverge again."""

    exit_status = 3


class LostPeerError(TrainingError):
    """Training that has lost another process; the same command resumes it."""

    exit_status = 75
    restart = True
