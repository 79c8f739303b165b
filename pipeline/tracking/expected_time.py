"""The expected time and memory of a run, from its first updates."""

from statistics import median

from pipeline.tracking.console import RunLength, duration

UPDATES = 10
"""Updates that are measured; the first one of a process is not: it also compiles kernels."""


class ExpectedTime:
    """Measures the first updates of a process, and says once what the run will take."""

    def __init__(self, length: RunLength) -> None:
        self._length = length
        self._times: list[float] = []

    def update(self, step: int, now: float, megabytes: float, unit: str = "process") -> str:
        """Record an update that ended at `now`; return a line after the last one to measure.

        `megabytes` is the peak memory of this process, or that of its GPU; `unit` says which. A
        median is not affected by an evaluation between two updates.
        """
        if len(self._times) > UPDATES:
            return ""
        self._times.append(now)
        if len(self._times) <= UPDATES:
            return ""
        gaps = [after - before for before, after in zip(self._times, self._times[1:], strict=False)]
        seconds, left = median(gaps), max(self._length.updates - step, 0)
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
