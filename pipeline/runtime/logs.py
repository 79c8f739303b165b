"""Logging of a process: INFO on rank 0, warnings and errors on every rank with its number."""

import logging
import sys

ROOT = "pipeline"
"""Logger of the whole package."""


class ConsoleHandler(logging.Handler):
    """Writes records to stderr, above any progress bar that is shown there."""

    def __init__(self, rank: int | None) -> None:
        """`rank` is shown before warnings and errors; None shows none."""
        super().__init__()
        self._rank = rank

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
            if "tqdm" in sys.modules:  # otherwise there is no bar, and no need to import it
                sys.modules["tqdm"].tqdm.write(text, file=sys.stderr)
            else:
                print(text, file=sys.stderr)
            sys.stderr.flush()
        except Exception:
            self.handleError(record)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno < logging.WARNING:
            return text
        level = record.levelname.lower()
        return f"{level}: {text}" if self._rank is None else f"{level}: rank {self._rank}: {text}"


def configure_logging(verbosity: int = 0, rank: int | None = None) -> None:
    """Show the package's log on stderr.

    `verbosity` -1 shows warnings only, 0 also information, 1 also debugging messages. Ranks other
    than 0 show warnings and errors only. `rank` is None in a process without other ranks.
    """
    logger = logging.getLogger(ROOT)
    for handler in logger.handlers[:]:
        if isinstance(handler, ConsoleHandler):
            logger.removeHandler(handler)
    logger.addHandler(ConsoleHandler(rank))
    levels = {-1: logging.WARNING, 0: logging.INFO, 1: logging.DEBUG}
    logger.setLevel(logging.WARNING if rank else levels[verbosity])
