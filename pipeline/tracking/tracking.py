"""Delivery of a run to its trackers, which never blocks or fails training.

The run folder is authoritative, and each tracker holds a copy of it:

- `metrics.jsonl`, written by the training loop, holds the metric points.
- `reports/*.json` hold the data behind plots and tables, one file per evaluation.

For each tracker, a thread follows these files (`follower.py`) and delivers what the tracker lacks:
for each metric the steps past the last step that it has, and the reports that it has not got yet.
This one rule covers a resumed run, a killed run, and a server that is down for hours. Delivered
points and reports are never replaced, even if a resumed run repeats their steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import components
from pipeline.errors import TrainingError
from pipeline.storage.redaction import redacted_settings
from pipeline.tracking import follower
from pipeline.tracking.base import NO_HIGHLIGHTS, EndStatus, Highlights, TrackedRun, Tracker
from pipeline.tracking.follower import Follower
from pipeline.tracking.settings import TrackSettings

if TYPE_CHECKING:
    from pipeline.corpus.dataset.manifest import Manifest


class Tracking:
    """Starts the trackers of the run of this process.

    No method waits for a tracker, except `close` for a limited time. The trackers follow
    `metrics.jsonl` and the reports on their own: nothing is passed to this class.

    Raises TrainingError if a required package is missing, and the errors of the trackers'
    constructors. Later failures are logged as warnings.

    Args:
        settings: Tracking settings.
        folder: Run folder.
        run_name: Name of the run.
        params: Config values by dotted key.
        manifest: Manifest of the training dataset.
        facts: Properties of this start, such as world size and device.
        highlights: What the overview of the run shows first.
    """

    def __init__(
        self,
        settings: TrackSettings,
        folder: Path,
        run_name: str,
        params: Mapping[str, Any],
        manifest: Manifest,
        facts: Mapping[str, str | int | float],
        highlights: Highlights = NO_HIGHLIGHTS,
    ) -> None:
        run = TrackedRun(folder, run_name, redacted_settings(params), facts, manifest, highlights)
        chosen = chosen_trackers(settings)
        for reference, tracker in chosen.items():
            _check_packages(reference, tracker, settings)
        trackers = [tracker(settings, run) for tracker in chosen.values()]
        self._followers = [Follower(tracker) for tracker in trackers]

    def close(self, status: EndStatus, seconds: float = 30.0) -> None:
        """Record how the run ended, then wait at most `seconds` until everything is delivered."""
        follower.close(self._followers, status, seconds)


def chosen_trackers(settings: TrackSettings) -> dict[str, type[Tracker]]:
    """Return the classes of the trackers by the values that choose them; none if disabled."""
    chosen = settings.trackers if settings.enabled else []
    return {reference: components.load("tracker", reference) for reference in chosen}


def watch_commands(settings: TrackSettings, folder: Path) -> list[str]:
    """Return the commands, or the addresses, that show the run in its trackers."""
    trackers = chosen_trackers(settings).values()
    return [shown for tracker in trackers if (shown := tracker.watch(settings, folder))]


def _check_packages(reference: str, tracker: type[Tracker], settings: TrackSettings) -> None:
    missing = [name for name in tracker.packages(settings) if find_spec(name) is None]
    if missing:
        install = f"headrace[{tracker.extra}]" if tracker.extra else " ".join(missing)
        raise TrainingError(
            f"track.trackers: {reference} needs {' and '.join(missing)}, not installed here; "
            f"pip install {install}, or remove {reference} from track.trackers, or set "
            f"track.enabled=false"
        )
