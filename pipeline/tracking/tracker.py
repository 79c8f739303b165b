"""Background copy of a run to MLflow that never blocks or fails training.

The run folder is authoritative, and MLflow holds a copy of it:

- `metrics.jsonl`, written by the training loop, holds the metric points.
- `reports/*.json` hold the data behind plots and tables, one file per evaluation.
- `mlflow.json` holds everything else that MLflow stores about the run, and how the run ended.

A thread follows these files and delivers what MLflow lacks: for each metric the steps past the last
step in MLflow, and the artifacts that are not in MLflow yet. This one rule covers a resumed run, a
killed run, a server that is down for hours, and a run that is copied later:

    python -m pipeline.tracking.replay RUN_DIR [--uri URI]

Delivered points and artifacts are never replaced, even if a resumed run repeats their steps. MLflow
finds a run by a tag that holds its key; a server without such a run receives all of it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import TrainingError
from pipeline.storage.atomic import write_file
from pipeline.tasks.base.sample import SAMPLES, Sample
from pipeline.tracking.mlflow_copy import MetricsReader, MlflowCopy, first_line
from pipeline.tracking.run_description import EndStatus, RunDescription
from pipeline.tracking.settings import TrackSettings

if TYPE_CHECKING:
    from pipeline.corpus.dataset.manifest import Manifest
    from pipeline.stream.plan import Plan
    from pipeline.tasks.base.task import Evaluation

logger = logging.getLogger(__name__)

POLL_SECONDS = 2.0
"""Seconds between two checks of the run folder."""
RETRY_SECONDS = 60.0
"""Seconds between a failure and the next attempt to reach MLflow."""
SYSTEM_METRICS_SECONDS = 10
"""Seconds between measurements of CPU, memory and GPU utilization."""
MAX_HISTOGRAM_BLOCKS = 20_000
"""Blocks that the length histogram counts; of a larger corpus, this many evenly spaced blocks."""


class Tracker:
    """Copies the run of this process to MLflow from a thread.

    No method waits for MLflow, except `close` for a limited time. Data reaches the thread only
    through files in the run folder, so nothing is lost if the process dies. The thread follows
    `metrics.jsonl` on its own: metrics are not passed to this class.

    Raises TrainingError if a required package is missing and RunError if the run's `mlflow.json` is
    damaged. Later failures of MLflow are logged as warnings.

    Args:
        settings: Tracking settings.
        folder: Run folder.
        run_name: Name of the MLflow run.
        params: Config values by dotted key, logged as MLflow params.
        manifest: Manifest of the training dataset.
        facts: Properties of this start, such as world size and device, logged as tags.
    """

    def __init__(
        self,
        settings: TrackSettings,
        folder: Path,
        run_name: str,
        params: Mapping[str, Any],
        manifest: Manifest,
        facts: Mapping[str, str | int | float],
    ) -> None:
        _check_packages(settings)
        self.folder = folder
        self._settings = settings
        self._uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI") or _default_uri()
        self._description = RunDescription.create(
            folder, self._uri, settings.experiment, run_name, params, facts, manifest
        )
        self._description_lock = threading.Lock()
        self._description.write(folder)
        self._metrics = MetricsReader(folder / "metrics.jsonl")
        self._system_monitor: Any = None
        self._failure = "no answer in time"
        self._closing = threading.Event()
        self._done = False
        self._thread = threading.Thread(target=self._follow, name="mlflow", daemon=True)
        self._thread.start()

    def log_evaluation(
        self,
        step: int,
        evaluation: Evaluation,
        mistakes: Sequence[Mapping[str, Any]],
        pages: Mapping[str, list[Sample]] | None = None,
    ) -> None:
        """Report an evaluation's confusion matrix (if it has one), mistakes and sample pages.

        `mistakes` are the rows of a table. `pages` maps an artifact folder to the samples on the
        page that goes there.
        """
        report = {
            "step": step,
            "table": evaluation.confusion,
            "labels": list(evaluation.labels),
            "counted": evaluation.confusion_unit,
            "mistakes": mistakes,
            "pages": {
                folder: SAMPLES.dump_python(samples, mode="json")
                for folder, samples in (pages or {}).items()
                if samples
            },
        }
        self._write_report(f"step-{step:08}", report)

    def log_length_histogram(self, plan: Plan) -> None:
        """Report the row lengths of a split and the lengths that its batches are padded to."""
        index = plan.sources[0].index
        blocks = np.linspace(0, index.blocks - 1, min(index.blocks, MAX_HISTOGRAM_BLOCKS))
        lengths = np.concatenate([block.lengths for block in index.read(blocks.astype(np.int64))])
        rows = np.bincount(lengths, minlength=index.max_length + 1)
        report = {"rows": rows.tolist(), "edges": plan.edges.tolist(), "total": index.rows}
        self._write_report("lengths", report)

    def close(self, status: EndStatus, seconds: float = 30.0) -> None:
        """Record how the run ended, then wait at most `seconds` until MLflow has everything."""
        with self._description_lock:
            self._description.status, self._description.ended = status, time.time()
            self._description.write(self.folder)
        self._closing.set()
        self._thread.join(seconds)
        if not self._done:
            logger.warning(
                "MLflow at %s lacks the end of the run%s: %s; deliver it later with: "
                "python -m pipeline.tracking.replay %s",
                self._description.uri, self._metrics.describe_undelivered(), self._failure,
                self.folder,
            )  # fmt: skip

    def _write_report(self, name: str, report: dict[str, Any]) -> None:
        folder = self.folder / "reports"
        folder.mkdir(exist_ok=True)
        text = json.dumps(report, ensure_ascii=False)
        write_file(folder / f"{name}.json", text, sync=False)  # damaged reports are skipped

    def _follow(self) -> None:
        """Body of the thread: deliver new data; after a failure, wait and connect again."""
        copy: MlflowCopy | None = None
        wait_seconds, failing = 0.0, False
        while not self._done:
            closing = self._closing.wait(wait_seconds)
            try:
                copy = copy or self._connect()
                copy.log_points(self._metrics)
                if closing:
                    if self._system_monitor:
                        self._system_monitor.finish()
                    copy.mark_ended()
                copy.log_reports()
                wait_seconds, self._done = POLL_SECONDS, closing
                if failing:
                    logger.warning("MLflow is reachable again and has everything so far")
                failing = False
            except Exception as error:  # from a library, server or disk: training must continue
                self._failure = first_line(error)
                logger.debug("tracking failed", exc_info=True)
                if closing:
                    return
                if not failing:
                    logger.warning(
                        "MLflow at %s: %s; training continues, and MLflow receives the missing "
                        "data as soon as it is reachable (next attempts every %.0f s)",
                        self._description.uri, self._failure, RETRY_SECONDS,
                    )  # fmt: skip
                copy, wait_seconds, failing = None, RETRY_SECONDS, True

    def _connect(self) -> MlflowCopy:
        copy = MlflowCopy(self.folder, self._description, self._uri)
        copy.mark_running()
        with self._description_lock:
            self._description.run_id = copy.run_id
            self._description.write(self.folder)
        if self._settings.system_metrics:
            self._start_system_monitor(copy.run_id)
        return copy

    def _start_system_monitor(self, run_id: str) -> None:
        """Start MLflow's system monitor, or restart it: it stops at its first failure."""
        module: Any = import_module("mlflow.system_metrics.system_metrics_monitor")
        if self._system_monitor:
            self._system_monitor.finish()
        self._system_monitor = module.SystemMetricsMonitor(
            run_id,
            sampling_interval=SYSTEM_METRICS_SECONDS,
            resume_logging=True,
            tracking_uri=self._uri,
        )
        self._system_monitor.start()


def _check_packages(settings: TrackSettings) -> None:
    required = ["mlflow", "matplotlib"] + ["psutil"] * settings.system_metrics
    missing = [name for name in required if find_spec(name) is None]
    if missing:
        raise TrainingError(
            f"track.enabled=true: tracking needs {' and '.join(missing)}, not installed here; "
            f"pip install headrace[track], or set track.enabled=false"
        )


def _default_uri() -> str:
    """Return the store that a plain `mlflow ui` in this folder opens; artifacts go to ./mlruns."""
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"
