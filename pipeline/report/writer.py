"""Writes `report.html` while a run trains; an error never stops the run."""

import logging
import time
from pathlib import Path

from pipeline.report import page

logger = logging.getLogger(__name__)

MAX_SHARE = 0.01
"""Share of a run's time that reports may take before its end."""


class ReportWriter:
    """Keeps the report of a run folder up to date."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._due = time.monotonic()
        self._failed = False

    def update(self) -> None:
        """Write the report unless that would take more than MAX_SHARE of the time."""
        if time.monotonic() >= self._due:
            self.write()

    def write(self) -> None:
        """Write the report. The first error is logged as a warning."""
        start = time.monotonic()
        try:
            page.write(self._folder)
        except Exception as error:  # such as a full disk or damaged data
            if not self._failed:
                logger.warning(
                    "report.html cannot be written: %s: %s; training continues",
                    type(error).__name__, error,
                )  # fmt: skip
            self._failed = True
        now = time.monotonic()
        self._due = now + (now - start) / MAX_SHARE
