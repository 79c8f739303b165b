"""Settings of tracking; those of each tracker are in its class."""

from pipeline.settings import Section, setting


class TrackSettings(Section):
    enabled: bool = setting(True, "deliver the run to the trackers", may_change=True)
    trackers: list[str] = setting(
        ["mlflow"],
        "trackers that receive the run's metrics and reports",
        kind="tracker",
        may_change=True,
    )
    report: bool = setting(
        True, "write report.html and its data files into the run folder", may_change=True
    )
