"""The expected time and memory of a run, from its first updates."""

from statistics import median

from pipeline.runtime.memory import peak_gpu_memory_mb, peak_memory_mb
from pipeline.tracking.console import RunLength, duration

MIN_UPDATES, MIN_SECONDS = 10, 3.0
"""Minimum number and total duration of the measured updates. The first batches of each length are
slower than later ones, which matters if updates take milliseconds."""


class ExpectedTime:
    """Estimates the time and the memory of a run from the first updates of a process, once.

    The first update is not measured: it also compiles kernels.
    """

    def __init__(self, length: RunLength) -> None:
        self._length = length
        self._last: float | None = None
        self._seconds: list[float] = []
        """Duration of each measured update."""
        self._printed = False

    def update(self, step: int, now: float) -> str:
        """Record an update that ended at `now`; return the line after the last measured update.

        A median is not affected by an evaluation between two updates.
        """
        if self._printed:
            return ""
        if self._last is not None:
            self._seconds.append(now - self._last)
        self._last, count = now, len(self._seconds)
        if count < MIN_UPDATES or (seconds := median(self._seconds)) * count < MIN_SECONDS:
            return ""
        self._printed = True
        left = max(self._length.updates - step, 0)
        gpu = peak_gpu_memory_mb()
        megabytes, unit = (gpu, "GPU") if gpu else (peak_memory_mb(), "process")
        return (
            f"time      about {duration(seconds * left)} for {left:,} updates, without "
            f"evaluations; {format_megabytes(megabytes)} per {unit}"
        )


def format_megabytes(megabytes: float) -> str:
    """Format a size in megabytes.

    >>> format_megabytes(512.4), format_megabytes(2048)
    ('512 MB', '2.0 GB')
    """
    return f"{megabytes / 1000:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
