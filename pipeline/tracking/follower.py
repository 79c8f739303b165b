"""Delivery of a run folder to a tracker, from a thread that never blocks or fails training."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.storage.redaction import without_password
from pipeline.tracking.base import EndStatus, Point, Tracker

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Seconds between two checks of the run folder."""
RETRY_SECONDS = 60.0
"""Seconds between a failure and the next attempt to connect."""
MODEL_SECONDS = 60.0
"""Seconds to wait for the model of a finished run, after everything else is delivered."""


class RunReader:
    """Reads the metrics and reports of a run folder that a tracker lacks.

    `delivered` are the last steps that `Tracker.connect` returned.
    """

    def __init__(self, folder: Path, delivered: Mapping[str, int]) -> None:
        self._metrics, self._reports = folder / "metrics.jsonl", folder / "reports"
        self._steps = dict(delivered)
        self._seen: set[str] = set()
        self.offset = 0
        """Bytes of metrics.jsonl that are delivered."""

    def points(self, max_lines: int = 100) -> Iterator[list[Point]]:
        """Yield the new points of up to `max_lines` complete lines.

        They count as delivered when the next ones are requested.
        """
        if not self._metrics.exists():
            return
        with self._metrics.open("rb") as file:
            file.seek(self.offset)
            complete = (line for line in file if line.endswith(b"\n"))
            while lines := list(islice(complete, max_lines)):
                points = [point for line in lines for point in self._parse(line)]
                if new := [point for point in points if self._is_new(point)]:
                    yield new
                self.offset += sum(map(len, lines))

    def reports(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the name and content of each new report; it then counts as delivered."""
        for path in sorted(self._reports.glob("*.json")):
            if path.name in self._seen:
                continue
            try:
                report = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:  # cut short by a power failure; must not block other reports
                logger.warning("%s: not valid JSON, not delivered", path)
            else:
                yield path.stem, report
            self._seen.add(path.name)

    def _is_new(self, point: Point) -> bool:
        is_new = point.step > self._steps.get(point.name, -1)
        if is_new:
            self._steps[point.name] = point.step
        return is_new

    def _parse(self, line: bytes) -> Iterator[Point]:
        try:
            values = json.loads(line)
            step, seconds = int(values.pop("step")), float(values.pop("time"))
        except (ValueError, TypeError, AttributeError, KeyError):
            logger.warning("%s: not a line of metrics, skipped: %.80r", self._metrics, line)
            return
        for name, value in values.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                yield Point(name, float(value), step, seconds)


class Follower:
    """Delivers what a run folder has to one tracker, from a thread of its own.

    Data reaches the thread only through files in the run folder, so nothing is lost if the process
    dies. Errors of the tracker are logged as one warning until it works again.
    """

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._title, self._late_delivery = tracker.title, tracker.late_delivery
        self._failure = "no answer in time"
        self._reader: RunReader | None = None
        self._offset = 0
        self._end: tuple[EndStatus, float] = ("FINISHED", 0.0)
        self._closing = threading.Event()
        self._ended = threading.Event()
        """Set when only the model is missing, or when the thread ends."""
        self._lacks_model_only = False
        self._done = False
        self._thread = threading.Thread(
            target=self._follow, name=type(tracker).__name__, daemon=True
        )
        self._thread.start()

    def end(self, status: EndStatus, seconds: float) -> None:
        """Record how and when (Unix seconds) the run has ended, and let the thread finish."""
        self._end = status, seconds
        try:
            self.tracker.record_end(status, seconds)
        except Exception as error:  # a full disk
            logger.warning("%s: the end is not recorded: %s", self._title, first_line(error))
        self._closing.set()

    def join(self, seconds: float) -> None:
        """Wait at most `seconds` until everything is delivered, and `MODEL_SECONDS` longer if only
        the model is missing; else log a warning."""
        self._ended.wait(max(seconds, 0))
        if self._lacks_model_only:
            self._thread.join(MODEL_SECONDS)
        if not self._done:
            missing = f"the end of the run{self._describe_undelivered()}"
            logger.warning(
                "%s lacks %s: %s; %s",
                self._title, "the model" if self._lacks_model_only else missing, self._failure,
                self._late_delivery,
            )  # fmt: skip

    def _follow(self) -> None:
        """Body of the thread."""
        try:
            self._follow_until_end()
        finally:
            self._ended.set()

    def _follow_until_end(self) -> None:
        """Deliver new data; after a failure, wait and connect again."""
        wait_seconds, failing = 0.0, False
        while not self._done:
            closing = self._closing.wait(wait_seconds)
            try:
                self._deliver(closing=closing)
                wait_seconds, self._done = POLL_SECONDS, closing
                if failing:
                    logger.warning("%s is reachable again and has everything so far", self._title)
                failing = False
            except Exception as error:  # from a library, server or disk: training must continue
                self._failure = first_line(error)
                logger.debug("tracking failed", exc_info=True)
                if closing:
                    return
                if not failing:
                    logger.warning(
                        "%s: %s; training continues, and the missing data is delivered as soon as "
                        "possible (next attempts every %.0f s)",
                        self._title, self._failure, RETRY_SECONDS,
                    )  # fmt: skip
                self._reader, wait_seconds, failing = None, RETRY_SECONDS, True

    def _deliver(self, *, closing: bool) -> None:
        tracker = self.tracker
        if self._reader is None:
            self._reader = RunReader(tracker.run.folder, tracker.connect())
        try:
            for points in self._reader.points():
                tracker.log_metrics(points)
        finally:
            self._offset = max(self._offset, self._reader.offset)
        if closing:
            tracker.ended(*self._end)
        for name, report in self._reader.reports():
            tracker.log_report(name, report)
        if closing:
            tracker.log_results()
            if tracker.logs_model:
                self._lacks_model_only = True
                self._ended.set()
                tracker.log_model()
            tracker.close()

    def _describe_undelivered(self) -> str:
        """Return a phrase with the number of undelivered lines, or an empty string."""
        path = self.tracker.run.folder / "metrics.jsonl"
        count = path.read_bytes().count(b"\n", self._offset) if path.exists() else 0
        return f" and up to {count} lines of {path.name}" if count else ""


def close(followers: list[Follower], status: EndStatus, seconds: float) -> None:
    """Record how the run has ended, and wait at most `seconds` for all trackers together."""
    now, deadline = time.time(), time.monotonic() + seconds
    for follower in followers:
        follower.end(status, now)
    for follower in followers:
        follower.join(deadline - time.monotonic())


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, truncated and without passwords."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_password(lines[0])[:300]
