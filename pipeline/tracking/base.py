"""Base class of the trackers that `track.trackers` chooses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pipeline.components import Component
from pipeline.tracking.settings import TrackSettings

if TYPE_CHECKING:
    from pipeline.corpus.dataset.manifest import Manifest

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]


class Point(NamedTuple):
    """The value of a metric at a step."""

    name: str
    """Such as train/loss."""
    value: float
    """A finite number."""
    step: int
    time: float
    """Unix seconds."""


@dataclass(frozen=True)
class Highlights:
    """Settings and a command that the overview of a run shows first."""

    changed: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of the params that differ from them, by dotted key."""
    predict: str = ""
    """Command that predicts with the run."""
    example: str = ""
    """A line that this command reads."""


NO_HIGHLIGHTS = Highlights()


@dataclass(frozen=True)
class TrackedRun:
    """The run that a tracker receives."""

    folder: Path
    name: str
    params: Mapping[str, Any]
    """Config values by dotted key."""
    facts: Mapping[str, Any]
    """Properties of this start, such as world size and device."""
    manifest: Manifest
    """Manifest of the training dataset."""
    highlights: Highlights = NO_HIGHLIGHTS


class Tracker(Component, ABC):
    """Delivers the metrics and reports of a run, on rank 0.

    The constructor runs on the training thread: raise TrainingError there for a mistake of the
    user. All other methods, unless they say otherwise, run on a thread of this tracker, and may
    wait and raise: an error is logged as one warning, training continues, and after a while
    `connect` is called again. `pipeline.tracking.follower` decides what is delivered.
    """

    Settings: ClassVar[type[TrackSettings]] = TrackSettings
    """The tracker's keys in the section `track`."""
    extra: ClassVar[str] = ""
    """The extra of Headrace with the packages that the tracker needs."""

    def __init__(self, settings: TrackSettings, run: TrackedRun) -> None:
        self.settings, self.run = settings, run

    @classmethod
    def packages(cls, settings: Any) -> Sequence[str]:
        """Return the optional packages that the tracker imports."""
        return ()

    @classmethod
    def watch(cls, settings: Any, folder: Path) -> str:
        """Return the command, or the address, that shows the run in `folder`; empty if none."""
        return ""

    @property
    def title(self) -> str:
        """The tracker's name in log messages."""
        return type(self).__name__

    @property
    def late_delivery(self) -> str:
        """How to deliver what is missing after the end of the run, for a log message."""
        return "the same command delivers it when the run resumes"

    @abstractmethod
    def connect(self) -> Mapping[str, int]:
        """Get ready to receive points; return the last step of each metric that is delivered.

        Later points of these metrics, and all points of others, are delivered from then on.
        """

    @abstractmethod
    def log_metrics(self, points: Sequence[Point]) -> None:
        """Deliver points, in the order of `metrics.jsonl`.

        On return they must survive the end of the process, or `connect` must not report them.
        """

    def log_report(self, name: str, report: Mapping[str, Any]) -> None:
        """Deliver a report: the file `reports/NAME.json`; see `pipeline.tracking.reports`.

        A report is delivered again after a restart and after an error; ignore it then.
        """

    def record_end(self, status: EndStatus, time: float) -> None:
        """Store in the run folder how the run has ended; runs on the training thread."""

    def ended(self, status: EndStatus, time: float) -> None:
        """Deliver how the run has ended, at `time` in Unix seconds; reports may still follow."""

    def log_results(self) -> None:
        """Deliver `summary.json` and `report.html` of the run folder, after points and reports.

        A resumed run, or a run without results, may have neither, or those of its last end.
        """

    @property
    def logs_model(self) -> bool:
        """Whether the ended run has a model to deliver."""
        return False

    def log_model(self) -> None:
        """Deliver the best model, after everything else; it may take longer than that."""

    def close(self) -> None:
        """Release resources; the last call after everything is delivered."""
