"""One run in MLflow: finds or creates it, and logs what it lacks from the run folder."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.report import samples as sample_pages
from pipeline.tasks.base.sample import SAMPLES
from pipeline.tracking.base import Point
from pipeline.tracking.mlflow_environment import DEFAULT_EXPERIMENT, EXPERIMENT_ID, RUN
from pipeline.tracking.mlflow_logged_model import LoggedModels
from pipeline.tracking.mlflow_note import Note
from pipeline.tracking.reports import drawn, plots_of
from pipeline.tracking.run_description import RunDescription
from pipeline.tracking.run_note import Best, best_of, read_summary, write_note

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Run

Item = TypeVar("Item")

logger = logging.getLogger(__name__)

MAX_LISTED_TABLES = 50
"""Newest tables that the MLflow UI lists: it finds them in one tag, whose length is limited."""

RUN_KEY_TAG = "headrace.run"
CHANGED_PARAM_TAG = "headrace.changed."
"""Prefix of the tags that name params changed by a resumed run; MLflow params cannot change."""
BEST = "best/"
"""Beginning of the name of the metric with the best evaluation so far."""
REPORT, REPORT_TAG = "report.html", "headrace.report"
"""File in the run folder and artifact, and the tag with its digest."""
TABLES_TAG = "mlflow.loggedArtifacts"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of a new experiment: the MLflow UI opens it in its view for model training."""
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; by default a closed port blocks for minutes
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",  # a lock file in the folder is not about Headrace
}
"""Defaults of environment variables that the user has not set."""


class MlflowCopy:
    """The MLflow run that copies a run folder; created on the server if it is not there.

    MLflow finds it by a tag that holds the run's key. If the description names an existing run,
    that one is used.

    All methods raise the errors of MLflow; after an error, discard the object and create a new one.
    """

    def __init__(self, description: RunDescription, uri: str, folder: Path) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for library in ("mlflow", "alembic", "urllib3.connectionpool"):
            logging.getLogger(library).setLevel(logging.ERROR)  # callers report errors in one line
        self._description, self._folder = description, folder
        self._client = MlflowClient(tracking_uri=uri)
        run = self._given()
        if run is None:
            self._name_experiment()
            run = self._find() or self._create()
        self.run_id: str = run.info.run_id
        self.last_steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        """Step of the last point of each metric."""
        self._best = _best(
            (metric.step, metric.key, metric.value) for metric in run.data.to_proto().metrics
        )
        self._tables = [table["path"] for table in json.loads(run.data.tags.get(TABLES_TAG, "[]"))]
        self._artifacts = self._list_artifacts()
        self._log_description(run)
        self._note = Note(self._client, self.run_id)
        self._log_note()

    def mark_running(self) -> None:
        """Set the status to RUNNING, also for a run that had ended before it was resumed."""
        name = None if self._description.given_run_id else self._description.name
        self._client.update_run(self.run_id, status="RUNNING", name=name)

    def log_metrics(self, points: Sequence[Point]) -> None:
        from mlflow.entities import Metric

        metrics = [Metric(p.name, p.value, int(p.time * 1000), p.step) for p in points]
        for chunk in _chunks(metrics, 1000):
            self._client.log_batch(self.run_id, metrics=chunk)
        if best := _best((point.step, point.name, point.value) for point in points):
            self._best = best
            self._log_note()

    def log_report(self, name: str, report: Mapping[str, Any]) -> None:
        """Log the plots, tables and pages of a report that are not in MLflow yet."""
        for plot in plots_of(name, report):
            folder = "" if plot.name == name else f"{plot.name}/"
            self._log_drawing(f"{folder}{name}.png", plot.draw)
        if name == "lengths":
            return
        if report["mistakes"] and (path := f"mistakes/{name}.json") not in self._artifacts:
            self._log_table(path, report["mistakes"])
        for folder, dumped_samples in report["pages"].items():
            samples = SAMPLES.validate_python(dumped_samples)
            title = f"{folder}, step {report['step']}"
            draw = partial(sample_pages.render_page, title, samples)
            self._log_drawing(f"{folder}/{name}.html", draw)

    def log_results(self) -> None:
        """Log the results in the run's note, and `report.html` if MLflow has not got it yet."""
        self._log_note()
        report = self._folder / REPORT
        if not report.exists():
            return
        with report.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:12]
        if self._client.get_run(self.run_id).data.tags.get(REPORT_TAG) != digest:
            self._client.log_artifact(self.run_id, str(report))
            self._client.set_tag(self.run_id, REPORT_TAG, digest)

    def log_model(self) -> None:
        """Log and register the best model, unless MLflow has it."""
        LoggedModels(self._client, self.run_id, self._description, self._folder).log()

    def mark_ended(self) -> None:
        """Set the status and end time of the run's description."""
        milliseconds = int(self._description.ended * 1000)
        self._client.set_terminated(self.run_id, self._description.status, milliseconds)

    def _name_experiment(self) -> None:
        """Set the name of the experiment if the description has only its id."""
        description = self._description
        if not description.experiment:
            found = _if_there(partial(self._client.get_experiment, description.experiment_id))
            description.experiment = found.name if found else DEFAULT_EXPERIMENT
            if found is None:
                number = description.experiment_id
                logger.warning("%s=%s: ignored; there is none in MLflow", EXPERIMENT_ID, number)

    def _given(self) -> Run | None:
        """Return the existing run that the description names, marked as this run's copy.

        If it cannot be used, log a line and return None.
        """
        description = self._description
        if not (number := description.given_run_id):
            return None
        run = _if_there(partial(self._client.get_run, number))
        if run is None or run.info.lifecycle_stage == "deleted":
            problem = "there is none"
        elif run.data.tags.get(RUN_KEY_TAG, description.key) != description.key:
            problem = "it has another run folder"
        else:
            self._client.set_tag(number, RUN_KEY_TAG, description.key)
            name = self._client.get_experiment(run.info.experiment_id).name
            asked = description.experiment or f"number {description.experiment_id}"
            if asked not in (DEFAULT_EXPERIMENT, name, f"number {run.info.experiment_id}"):
                logger.warning(
                    "%s=%s: is in the experiment %s, so the run goes there and not to "
                    "the experiment %s",
                    RUN, number, name, asked,
                )  # fmt: skip
            description.experiment = name
            return run
        logger.warning("%s=%s: ignored; %s in MLflow", RUN, number, problem)
        description.given_run_id = ""
        return None

    def _find(self) -> Run | None:
        client, name = self._client, self._description.experiment
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return None
        has_key = f"tags.`{RUN_KEY_TAG}` = '{self._description.key}'"
        runs = client.search_runs([experiment.experiment_id], has_key, max_results=1)
        return client.get_run(runs[0].info.run_id) if runs else None

    def _create(self) -> Run:
        """Create the run, and its experiment if there is none of that name."""
        client, description = self._client, self._description
        name = description.experiment
        experiment = client.get_experiment_by_name(name)
        return client.create_run(
            experiment.experiment_id
            if experiment
            else client.create_experiment(name, tags=EXPERIMENT_TAGS),
            start_time=int(description.started * 1000),
            tags={RUN_KEY_TAG: description.key} | description.tags,
            run_name=description.name,
        )

    def _log_description(self, run: Run) -> None:
        """Log tags, dataset and new params; a tag reports each param whose value has changed."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        old, new = run.data.params, self._description.params
        changed = {
            f"{CHANGED_PARAM_TAG}{key}": f"{old[key][:1000]} -> {value[:1000]}"
            for key, value in new.items()
            if old.get(key, value) != value
        }
        for tag in run.data.tags:
            if tag.startswith(CHANGED_PARAM_TAG) and tag not in changed:
                self._client.delete_tag(self.run_id, tag)
        # The UI shows params in this order, at least with SQLite: first those that matter.
        ordered = sorted(new.items(), key=lambda item: item[0] not in self._description.changed)
        params = [Param(key, value) for key, value in ordered if key not in old]
        tags = [RunTag(key, value) for key, value in (self._description.tags | changed).items()]
        for params_chunk in _chunks(params, 100):
            self._client.log_batch(self.run_id, params=params_chunk)
        for tags_chunk in _chunks(tags, 100):
            self._client.log_batch(self.run_id, tags=tags_chunk)
        context = [InputTag("mlflow.data.context", "training")]
        dataset = DatasetInput(Dataset(**self._description.dataset), context)
        self._client.log_inputs(self.run_id, datasets=[dataset])

    def _log_note(self) -> None:
        summary = read_summary(self._folder)
        best = best_of(summary, self._best)
        self._note.write(write_note(self._description, best, summary))

    def _list_artifacts(self) -> set[str]:
        """Return the paths of all logged artifacts at the top level and in the reports' folders."""
        paths = set()
        for artifact in self._client.list_artifacts(self.run_id):
            paths.add(artifact.path)
            if artifact.path in ("confusion", "mistakes", "samples", "scatter"):
                children = self._client.list_artifacts(self.run_id, artifact.path)
                paths |= {child.path for child in children}
        return paths

    def _log_drawing(self, path: str, draw: Callable[[], Figure | str]) -> None:
        """Draw and log a plot or an HTML page, unless it is logged already.

        If drawing fails, the artifact is skipped with a warning; other artifacts are not affected.
        """
        if path in self._artifacts:
            return
        drawing = drawn(draw, "MLflow", path)
        if drawing is None:
            return
        if isinstance(drawing, str):
            self._client.log_text(self.run_id, drawing, path)
        else:
            self._client.log_figure(self.run_id, drawing, path)

    def _log_table(self, path: str, rows: list[dict[str, Any]]) -> None:
        """Log a table in the format of `MlflowClient.log_table`, but safely repeatable.

        `log_table` appends to an existing table when a call is retried, and lists all tables of a
        run in one tag until that is too long.
        """
        columns = list(rows[0])
        data = [[_nan_to_none(row.get(column)) for column in columns] for row in rows]
        self._client.log_text(self.run_id, json.dumps({"columns": columns, "data": data}), path)
        self._tables = [*self._tables, path][-MAX_LISTED_TABLES:]
        listed = [{"path": table, "type": "table"} for table in self._tables]
        self._client.set_tag(self.run_id, TABLES_TAG, json.dumps(listed))


def _best(points: Iterable[tuple[int, str, float]]) -> Best | None:
    """Return the last of the points of the metric `best/NAME`, each a step, name and value."""
    found = [point for point in points if point[1].startswith(BEST)]
    if not found:
        return None
    step, name, value = max(found)
    return Best(name.removeprefix(BEST), value, step)


def _if_there(get: Callable[[], Item]) -> Item | None:
    """Return `get()`, or None if MLflow has no such item."""
    from mlflow.exceptions import MlflowException

    try:
        return get()
    except MlflowException as error:
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def _chunks(items: list[Item], size: int) -> list[list[Item]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _nan_to_none(value: Any) -> Any:
    """Replace a NaN or an infinity, which browsers reject in JSON, by None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
