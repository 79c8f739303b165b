"""Settings of MLflow tracking."""

from pipeline.settings import Section, setting


class TrackSettings(Section):
    enabled: bool = setting(True, "track the run in MLflow", may_change=True)
    uri: str = setting(
        "",
        "MLflow tracking URI; empty: MLFLOW_TRACKING_URI, else SQLite in the current folder",
        may_change=True,
    )
    experiment: str = setting("headrace", "name of the MLflow experiment", may_change=True)
    system_metrics: bool = setting(
        True, "log CPU, memory and GPU utilization of the machine", may_change=True
    )
