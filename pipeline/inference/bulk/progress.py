"""Progress of a bulk prediction, on stderr: rows, rows/s and the remaining time."""

import logging
import sys
import time

from tqdm import tqdm

LINE_INTERVAL_SECONDS = 5.0

logger = logging.getLogger(__name__)


class Progress:
    """Shows the progress of all processes, estimated from this one: their parts are interleaved.

    On a terminal, one line is updated; otherwise, a line is logged every few seconds.
    """

    def __init__(self, *, enabled: bool) -> None:
        """`enabled` is false on ranks that show nothing."""
        self.enabled = enabled and logger.isEnabledFor(logging.INFO)
        self._live = self.enabled and sys.stderr.isatty()
        self._bar = tqdm(bar_format="{desc}", disable=not self._live)
        self._start: tuple[float, int, float] | None = None
        self._last_line = time.monotonic()

    def begin(self, row: int, share: float) -> None:
        """Record, at the first call, the position before the first part of this process."""
        if self._start is None:
            self._start = (time.monotonic(), row, share)

    def update(self, row: int, share: float) -> None:
        """Show a position in the input, given the rows before it and their share of the bytes."""
        now = time.monotonic()
        if not self.enabled or self._start is None or not self._is_due(now):
            return
        self._last_line = now
        since, first_row, first_share = self._start
        rate = (row - first_row) / max(now - since, 1e-3)
        text = f"{row:,} rows  {share:.0%}  {rate:,.0f} rows/s"
        if share > first_share:
            left = (now - since) * max(1 - share, 0) / (share - first_share)
            text += f"  left {duration(left)}"
        if self._live:
            self._bar.set_description_str(text)
        else:
            logger.info("%s", text)

    def close(self) -> None:
        self._bar.close()

    def _is_due(self, now: float) -> bool:
        return self._live or now - self._last_line >= LINE_INTERVAL_SECONDS


def duration(seconds: float) -> str:
    """Return a time as minutes and seconds, with hours if there are any.

    >>> duration(61), duration(3 * 3600)
    ('1:01', '3:00:00')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
