"""MLflow."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.run.source import run_source
from pipeline.settings import Conflict, FilePath, Sections, setting
from pipeline.storage.redaction import without_password
from pipeline.tracking import mlflow_environment
from pipeline.tracking.base import EndStatus, Point, TrackedRun, Tracker
from pipeline.tracking.run_description import RunDescription, source_tags
from pipeline.tracking.settings import TrackSettings

ALIAS = r"(?!(?i:latest|v\d+)$)[\w-]*"
SYSTEM_METRICS_SECONDS = 10
"""Seconds between measurements of CPU, memory and GPU utilization."""


class Mlflow(Tracker):
    """Copies the run to MLflow, with params, tags, dataset, plots, tables and pages.

    `mlflow.json` in the run folder holds everything that MLflow stores about the run besides points
    and artifacts, and how the run ended. A server without the run receives all of it, also later:

        python -m pipeline.tracking.replay RUN_DIR [--uri URI]
    """

    class Settings(TrackSettings):
        uri: FilePath = setting(
            "",
            "MLflow tracking URI; empty: MLFLOW_TRACKING_URI, else SQLite in the current folder",
            may_change=True,
        )
        experiment: str = setting(
            mlflow_environment.DEFAULT_EXPERIMENT,
            "name of the MLflow experiment; MLFLOW_EXPERIMENT_NAME replaces the default",
            may_change=True,
        )
        system_metrics: bool = setting(
            True, "log CPU, memory and GPU utilization of the machine to MLflow", may_change=True
        )

        log_model: bool = setting(
            True, "log the best model of a finished run to MLflow", may_change=True
        )
        registered_model_name: str = setting(
            "", "also register that model in MLflow under this name", may_change=True
        )
        model_alias: str = setting(
            "", "alias of the registered version, such as champion", may_change=True
        )

    settings: Settings
    extra = "track"

    def __init__(self, settings: Settings, run: TrackedRun) -> None:
        """Raises RunError if the run's `mlflow.json` is damaged."""
        super().__init__(settings, run)
        chosen = mlflow_environment.choose(settings.uri, settings.experiment, run.folder)
        self._uri = chosen.uri
        self._description = RunDescription.create(
            run.folder, self._uri, chosen.experiment, run.name, run.params, run.facts,
            run.manifest, chosen.experiment_id, chosen.given_run_id, run.highlights,
            log_model=settings.log_model,
            registered_model_name=settings.registered_model_name,
            model_alias=settings.model_alias,
        )  # fmt: skip
        self._description_lock = threading.Lock()
        self._description.write(run.folder)
        self._has_source = False
        self._copy: Any = None
        self._system_monitor: Any = None

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        track = config.track
        if track.registered_model_name and not track.log_model:
            yield Conflict(
                "track.registered_model_name",
                "applies only to a logged model, but track.log_model=false",
                "remove it, or set track.log_model=true",
            )
        if set(track.registered_model_name) & set("/:"):
            yield Conflict(
                "track.registered_model_name",
                "has a / or :, which MLflow refuses",
                "set another name",
            )
        if track.model_alias and not track.registered_model_name:
            yield Conflict(
                "track.model_alias",
                "applies only to a registered model",
                "remove it, or set track.registered_model_name",
            )
        if not re.fullmatch(ALIAS, track.model_alias):
            yield Conflict(
                "track.model_alias",
                "is not an alias of MLflow: letters, digits, _ and -, and neither latest nor v1",
                "set another one",
            )

    @classmethod
    def packages(cls, settings: Settings) -> Sequence[str]:
        return ["mlflow", "matplotlib"] + ["psutil"] * settings.system_metrics

    @classmethod
    def watch(cls, settings: Settings, folder: Path) -> str:
        uri = mlflow_environment.shown_uri(settings.uri)
        if uri.startswith("http"):
            return without_password(uri)
        return f"mlflow ui --backend-store-uri {uri}" if uri else "mlflow ui"

    @property
    def title(self) -> str:
        return f"MLflow at {self._description.uri}"

    @property
    def late_delivery(self) -> str:
        return f"deliver it later with: python -m pipeline.tracking.replay {self.run.folder}"

    def connect(self) -> Mapping[str, int]:
        self._add_source()
        from pipeline.tracking.mlflow_copy import MlflowCopy  # not needed to read a config

        self._copy = MlflowCopy(self._description, self._uri, self.run.folder)
        self._copy.mark_running()
        with self._description_lock:
            self._description.run_id = self._copy.run_id
            self._description.write(self.run.folder)
        if self.settings.system_metrics:
            self._start_system_monitor()
        steps: dict[str, int] = self._copy.last_steps
        return steps

    def log_metrics(self, points: Sequence[Point]) -> None:
        self._copy.log_metrics(points)

    def log_report(self, name: str, report: Mapping[str, Any]) -> None:
        self._copy.log_report(name, report)

    def record_end(self, status: EndStatus, time: float) -> None:
        with self._description_lock:
            self._description.status, self._description.ended = status, time
            self._description.write(self.run.folder)

    def ended(self, status: EndStatus, time: float) -> None:
        if self._system_monitor:
            self._system_monitor.finish()
        self._copy.mark_ended()

    def log_results(self) -> None:
        self._copy.log_results()

    @property
    def logs_model(self) -> bool:
        return self._description.has_model

    def log_model(self) -> None:
        self._copy.log_model()

    def _add_source(self) -> None:
        """Add user, command and git commit to the description, before the first connection."""
        if self._has_source:
            return
        tags = source_tags(run_source())
        with self._description_lock:
            self._description.tags |= tags
            self._description.write(self.run.folder)
        self._has_source = True

    def _start_system_monitor(self) -> None:
        """Start MLflow's system monitor, or restart it: it stops at its first failure."""
        module: Any = import_module("mlflow.system_metrics.system_metrics_monitor")
        if self._system_monitor:
            self._system_monitor.finish()
        self._system_monitor = module.SystemMetricsMonitor(
            self._copy.run_id,
            sampling_interval=SYSTEM_METRICS_SECONDS,
            resume_logging=True,
            tracking_uri=self._uri,
        )
        self._system_monitor.start()
