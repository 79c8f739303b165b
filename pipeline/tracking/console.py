"""Console output of a run: a progress bar on a terminal, a line every few seconds in a log."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

LINE_INTERVAL_SECONDS = 5.0
"""Seconds between progress lines when stderr is not a terminal."""


class ConsoleProgress:
    """Progress of a run over all its rows, printed to stderr.

    Args:
        rows: Rows that the run consumes over all epochs.
        done: Rows already consumed when a run is resumed, else 0.
        enabled: False on ranks that print nothing.
    """

    def __init__(self, rows: int, done: int, *, enabled: bool) -> None:
        self.rows, self.enabled = rows, enabled
        self.live = enabled and sys.stderr.isatty()
        self._start_time, self._start_rows = time.perf_counter(), done
        self._last_line_time = -LINE_INTERVAL_SECONDS
        self._bar = tqdm(
            total=rows,
            initial=done,
            unit=" rows",
            unit_scale=True,
            disable=not self.live,
            dynamic_ncols=True,
            smoothing=0.05,
        )

    def say(self, text: str) -> None:
        """Print a line that the progress bar does not overwrite."""
        if self.live:
            self._bar.write(text, file=sys.stderr)
        elif self.enabled:
            print(text, file=sys.stderr, flush=True)

    def update(self, step: int, rows: int, metrics: Mapping[str, float]) -> None:
        """Show an update's metrics; `rows` is the total number of rows consumed so far."""
        if not self.enabled:
            return
        now = time.perf_counter()
        if self.live:
            self._bar.set_postfix_str(_format_metrics(metrics), refresh=False)
            self._bar.update(rows - self._bar.n)
        elif now - self._last_line_time >= LINE_INTERVAL_SECONDS:
            self._last_line_time = now
            rows_per_second = (rows - self._start_rows) / max(now - self._start_time, 1e-9)
            seconds_left = (self.rows - rows) / rows_per_second if rows_per_second else 0
            self.say(
                f"step {step}  {rows / self.rows:.1%}  {_format_metrics(metrics)}"
                f"  left {_format_duration(seconds_left)}"
            )

    def close(self) -> None:
        self._bar.close()


def _format_metrics(metrics: Mapping[str, float]) -> str:
    """Format metrics by the last part of their names; values from 1,000 up are in thousands."""
    parts = []
    for name, value in metrics.items():
        short = name.rpartition("/")[2]
        parts.append(f"{short} {value / 1000:.1f}k" if value >= 1000 else f"{short} {value:.3f}")
    return "  ".join(parts)


def _format_duration(seconds: float) -> str:
    minutes, seconds_rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds_rest:02}" if hours else f"{minutes}:{seconds_rest:02}"
