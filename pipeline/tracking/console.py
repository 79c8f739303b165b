"""What a person sees of a run: a live bar on a terminal, a line every few seconds in a log."""

import sys
import time
from collections.abc import Mapping

from tqdm import tqdm

EVERY = 5.0
"""Seconds between lines in a log."""


class ConsoleProgress:
    """Progress of a run over all its rows; `shown` is false on the ranks that keep silent."""

    def __init__(self, rows: int, done: int, *, shown: bool) -> None:
        self.rows, self.shown = rows, shown
        self.live = shown and sys.stderr.isatty()
        self._began, self._done = time.perf_counter(), done
        self._last = -EVERY
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
        """A line that stays."""
        if self.live:
            self._bar.write(text, file=sys.stderr)
        elif self.shown:
            print(text, file=sys.stderr, flush=True)

    def update(self, step: int, rows: int, metrics: Mapping[str, float]) -> None:
        """Show the figures after an update; `rows` were consumed so far."""
        if not self.shown:
            return
        now = time.perf_counter()
        if self.live:
            self._bar.set_postfix_str(_figures(metrics), refresh=False)
            self._bar.update(rows - self._bar.n)
        elif now - self._last >= EVERY:
            self._last = now
            speed = (rows - self._done) / max(now - self._began, 1e-9)
            left = (self.rows - rows) / speed if speed else 0
            self.say(
                f"step {step}  {rows / self.rows:.1%}  {_figures(metrics)}  left {_clock(left)}"
            )

    def close(self) -> None:
        self._bar.close()


def _figures(metrics: Mapping[str, float]) -> str:
    """The figures by their last names, counts in thousands."""
    shown = []
    for name, value in metrics.items():
        short = name.rpartition("/")[2]
        shown.append(f"{short} {value / 1000:.1f}k" if value >= 1000 else f"{short} {value:.3f}")
    return "  ".join(shown)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
