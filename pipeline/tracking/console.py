"""Console output of a run: a progress bar on a terminal, a line every few seconds in a log."""

import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from tqdm import tqdm

LINE_INTERVAL_SECONDS = 5.0
"""Seconds between progress lines when stderr is not a terminal."""
MAX_WIDTH = 80
MIN_BAR, MAX_BAR = 8, 20
"""Minimum and maximum width of the bar, in cells. A narrower bar is left out."""
THROUGHPUT = "tokens_per_s"
FIRST_METRIC = 3
"""Index of the first metric in the parts of a progress line, after epoch, step and percent."""


@dataclass(frozen=True)
class RunLength:
    """Length of a run."""

    rows: int
    """Rows that the run consumes over all epochs."""
    updates: int
    epochs: int
    exact: bool = True
    """Whether `updates` is counted, not estimated."""


class Progress(NamedTuple):
    """Progress of a run after an update."""

    step: int
    rows: int
    metrics: Mapping[str, float]
    seconds_left: float | None
    """None while unknown."""


class ConsoleProgress:
    """Progress of a run, printed to stderr.

    Args:
        length: Rows, updates and epochs of the whole run.
        enabled: False on ranks that print nothing.
    """

    def __init__(self, length: RunLength, *, enabled: bool) -> None:
        self.length, self.enabled = length, enabled
        self.live = enabled and sys.stderr.isatty()
        self._after_first: tuple[float, int] | None = None
        """Time and step after the first update, which also opens files and compiles kernels."""
        self._last_line_time = -LINE_INTERVAL_SECONDS
        self._bar = tqdm(bar_format="{desc}", disable=not self.live)

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
        progress = Progress(step, rows, metrics, self._seconds_left(step, now))
        if self.live:
            width = min(shutil.get_terminal_size().columns - 1, MAX_WIDTH - 1)
            self._bar.set_description_str(bar_line(self.length, progress, width), refresh=False)
            self._bar.update()
        elif now - self._last_line_time >= LINE_INTERVAL_SECONDS:
            self._last_line_time = now
            self.say("  ".join(fitting(parts(self.length, progress), progress, MAX_WIDTH)))

    def close(self) -> None:
        self._bar.close()

    def _seconds_left(self, step: int, now: float) -> float | None:
        """Return the expected remaining time, including evaluations; None at first."""
        if self._after_first is None:
            self._after_first = now, step
        first_time, first_step = self._after_first
        if step == first_step:
            return None
        return max(self.length.updates - step, 0) * (now - first_time) / (step - first_step)


def bar_line(length: RunLength, progress: Progress, width: int) -> str:
    """Return the line of the progress bar, at most `width` columns wide."""
    texts = fitting(parts(length, progress), progress, width)
    room = width - len("  ".join(texts)) - len("[]  ")
    if room >= MIN_BAR:
        cells = min(room, MAX_BAR)
        filled = round(cells * _share(length, progress))
        texts.insert(0, f"[{'#' * filled}{'-' * (cells - filled)}]")
    return "  ".join(texts)[:width]


def fitting(texts: list[str], progress: Progress, width: int) -> list[str]:
    """Return the parts that fit: the last metrics are left out first, the loss never."""
    shown, metrics = list(texts), len(progress.metrics)
    while len("  ".join(shown)) > width and metrics > 1:
        metrics -= 1
        del shown[FIRST_METRIC + metrics]
    return shown


def parts(length: RunLength, progress: Progress) -> list[str]:
    """Return the parts of a progress line: epoch, step, percent, each metric, time left."""
    about = "" if length.exact else "~"
    epoch = min(int(progress.rows * length.epochs / max(length.rows, 1)) + 1, length.epochs)
    left = progress.seconds_left
    return [
        f"epoch {epoch}/{length.epochs}",
        f"step {progress.step}/{about}{length.updates}",
        f"{int(100 * _share(length, progress))}%",
        *(_format_metric(name, value) for name, value in progress.metrics.items()),
        f"left {'?' if left is None else duration(left)}",
    ]


def evaluation_line(
    step: int, metrics: Mapping[str, float], best_metric: str, *, is_best: bool
) -> str:
    """Return the line about an evaluation: the metric that chooses the best checkpoint, the loss,
    and as many other metrics as fit in 80 columns."""
    order = dict.fromkeys([best_metric, "loss", *metrics])
    texts = [f"{name} {metrics[name]:.4g}" for name in order if name in metrics]
    if is_best and best_metric in metrics:
        texts[0] += " (best so far)"
    texts = [text for text in texts if not text.startswith("examples ")]
    line = f"step {step}  validation: {texts[0]}" if texts else f"step {step}  validation"
    for text in texts[1:]:
        if len(line) + 2 + len(text) <= MAX_WIDTH:
            line += f"  {text}"
    return line


def _share(length: RunLength, progress: Progress) -> float:
    """Return the completed share of the run; `train.max_steps` may end it before all rows."""
    rows, steps = progress.rows / max(length.rows, 1), progress.step / max(length.updates, 1)
    return min(max(rows, steps), 1.0)


def _format_metric(name: str, value: float) -> str:
    """Format a metric by the last part of its name; values from 1,000 up are in thousands."""
    short = name.rpartition("/")[2]
    number = f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.3f}"
    return f"{number} tokens/s" if short == THROUGHPUT else f"{short} {number}"


def duration(seconds: float) -> str:
    """Format seconds as minutes or hours.

    >>> duration(75), duration(4000)
    ('1:15', '1:06:40')
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
