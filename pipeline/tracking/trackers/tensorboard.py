"""TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.tracking.base import Point, Tracker
from pipeline.tracking.reports import drawn, plots_of
from pipeline.tracking.settings import TrackSettings


class TensorBoard(Tracker):
    """Writes event files to the folder `tensorboard` in the run folder: metrics and plots."""

    extra = "tensorboard"
    _writer: Any = None

    @classmethod
    def packages(cls, settings: TrackSettings) -> Sequence[str]:
        return ["tensorboard", "matplotlib"]

    @classmethod
    def watch(cls, settings: TrackSettings, folder: Path) -> str:
        return f"tensorboard --logdir {_logdir(folder)}"

    def connect(self) -> Mapping[str, int]:
        from torch.utils.tensorboard import SummaryWriter

        self.close()
        logdir = _logdir(self.run.folder)
        self._plots, steps = _last_steps(logdir)
        self._writer = SummaryWriter(str(logdir))
        return steps

    def log_metrics(self, points: Sequence[Point]) -> None:
        for point in points:
            self._writer.add_scalar(point.name, point.value, point.step, point.time)
        self._writer.flush()

    def log_report(self, name: str, report: Mapping[str, Any]) -> None:
        for plot in plots_of(name, report):
            if plot.step > self._plots.get(plot.name, -1):
                if (drawing := drawn(plot.draw, self.title, plot.name)) is not None:
                    self._writer.add_figure(plot.name, drawing, plot.step)
                self._plots[plot.name] = plot.step
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _logdir(folder: Path) -> Path:
    return folder / "tensorboard"


def _last_steps(logdir: Path) -> tuple[dict[str, int], dict[str, int]]:
    """Return the last step of each plot, and of each metric, in the event files of a folder.

    An event that was cut short by a crash is left out.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not logdir.exists():
        return {}, {}
    events = EventAccumulator(str(logdir), {"scalars": 1, "images": 1}).Reload()
    tags = events.Tags()
    plots = {tag: events.Images(tag)[-1].step for tag in tags["images"]}
    return plots, {tag: events.Scalars(tag)[-1].step for tag in tags["scalars"]}
