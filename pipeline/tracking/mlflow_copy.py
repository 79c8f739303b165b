"""One run in MLflow: finds or creates it, and logs what it lacks from the run folder."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.tasks.base.sample import SAMPLES
from pipeline.tracking import html_report, plots
from pipeline.tracking.run_description import RunDescription, without_password

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

MAX_LISTED_TABLES = 50
"""Newest tables that the MLflow UI lists: it finds them in one tag, whose length is limited."""

RUN_KEY_TAG = "headrace.run"
CHANGED_PARAM_TAG = "headrace.changed."
"""Prefix of the tags that name params changed by a resumed run; MLflow params cannot change."""
TABLES_TAG = "mlflow.loggedArtifacts"
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Tags of a new experiment: the MLflow UI opens it in its view for model training."""
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; by default a closed port blocks for minutes
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Defaults of environment variables that the user has not set."""


class MetricsReader:
    """Reads `metrics.jsonl` from the end of the last delivered line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        """Bytes delivered to MLflow."""

    def batches(self, max_lines: int = 100) -> Iterator[list[tuple[str, float, int, int]]]:
        """Yield the points of up to `max_lines` complete lines: key, value, Unix ms, step.

        A batch counts as delivered when the next one is requested.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            complete = (line for line in file if line.endswith(b"\n"))
            while lines := list(islice(complete, max_lines)):
                yield [point for line in lines for point in self._parse(line)]
                self.offset += sum(map(len, lines))

    def describe_undelivered(self) -> str:
        """Return a phrase with the number of undelivered lines, or an empty string."""
        if not self.path.exists():
            return ""
        count = self.path.read_bytes().count(b"\n", self.offset)
        return f" and up to {count} lines of {self.path.name}" if count else ""

    def _parse(self, line: bytes) -> Iterator[tuple[str, float, int, int]]:
        try:
            values = json.loads(line)
            step, milliseconds = int(values.pop("step")), int(values.pop("time") * 1000)
        except (ValueError, TypeError, AttributeError, KeyError):
            logger.warning("%s: not a line of metrics, skipped: %.80r", self.path, line)
            return
        for key, value in values.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                yield key, float(value), milliseconds, step


class MlflowCopy:
    """The MLflow run that copies a run folder; created on the server if it is not there.

    All methods raise the errors of MLflow; after an error, discard the object and create a new one.
    """

    def __init__(self, folder: Path, description: RunDescription, uri: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for library in ("mlflow", "alembic", "urllib3.connectionpool"):
            logging.getLogger(library).setLevel(logging.ERROR)  # callers report errors in one line
        self._folder, self._description = folder, description
        self._client = MlflowClient(tracking_uri=uri)
        run = self._find() or self._create()
        self.run_id: str = run.info.run_id
        self._last_steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        self._tables = [table["path"] for table in json.loads(run.data.tags.get(TABLES_TAG, "[]"))]
        self._logged_reports: set[str] = set()
        self._artifacts = self._list_artifacts()
        self._log_description(run)

    def mark_running(self) -> None:
        """Set the status to RUNNING, also for a run that had ended before it was resumed."""
        self._client.update_run(self.run_id, status="RUNNING", name=self._description.name)

    def log_points(self, reader: MetricsReader) -> None:
        """Log the points past the last logged step of their metric."""
        from mlflow.entities import Metric

        for points in reader.batches():
            new = []
            for key, value, milliseconds, step in points:
                if step > self._last_steps.get(key, -1):
                    self._last_steps[key] = step
                    new.append(Metric(key, value, milliseconds, step))
            for chunk in _chunks(new, 1000):
                self._client.log_batch(self.run_id, metrics=chunk)

    def log_reports(self) -> None:
        """Log the plots, tables and pages that are not in MLflow yet."""
        for path in sorted((self._folder / "reports").glob("*.json")):
            if path.name in self._logged_reports:
                continue
            try:
                report = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:  # cut short by a power failure; must not block other reports
                logger.warning("%s: not valid JSON, not copied to MLflow", path)
            else:
                self._log_report(path.stem, report)
            self._logged_reports.add(path.name)

    def mark_ended(self) -> None:
        """Set the status and end time of the run's description."""
        milliseconds = int(self._description.ended * 1000)
        self._client.set_terminated(self.run_id, self._description.status, milliseconds)

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
            tags={RUN_KEY_TAG: description.key},
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
        params = [Param(key, value) for key, value in new.items() if key not in old]
        tags = [RunTag(key, value) for key, value in (self._description.tags | changed).items()]
        for params_chunk in _chunks(params, 100):
            self._client.log_batch(self.run_id, params=params_chunk)
        for tags_chunk in _chunks(tags, 100):
            self._client.log_batch(self.run_id, tags=tags_chunk)
        context = [InputTag("mlflow.data.context", "training")]
        dataset = DatasetInput(Dataset(**self._description.dataset), context)
        self._client.log_inputs(self.run_id, datasets=[dataset])

    def _list_artifacts(self) -> set[str]:
        """Return the paths of all logged artifacts at the top level and in the reports' folders."""
        paths = set()
        for artifact in self._client.list_artifacts(self.run_id):
            paths.add(artifact.path)
            if artifact.path in ("confusion", "mistakes", "samples"):
                children = self._client.list_artifacts(self.run_id, artifact.path)
                paths |= {child.path for child in children}
        return paths

    def _log_report(self, name: str, report: dict[str, Any]) -> None:
        if name == "lengths":
            self._log_drawing("lengths.png", lambda: plots.length_histogram(**report))
            return
        title = f"step {report['step']}"
        if report["table"]:
            arguments = (report["table"], report["labels"], title, report["counted"])
            self._log_drawing(f"confusion/{name}.png", lambda: plots.confusion_matrix(*arguments))
        if report["mistakes"] and (path := f"mistakes/{name}.json") not in self._artifacts:
            self._log_table(path, report["mistakes"])
        for folder, dumped_samples in report["pages"].items():
            samples = SAMPLES.validate_python(dumped_samples)
            draw = partial(html_report.render_page, f"{folder}, {title}", samples)
            self._log_drawing(f"{folder}/{name}.html", draw)

    def _log_drawing(self, path: str, draw: Callable[[], Figure | str]) -> None:
        """Draw and log a plot or an HTML page, unless it is logged already.

        If drawing fails, the artifact is skipped with a warning; other artifacts are not affected.
        """
        if path in self._artifacts:
            return
        try:
            drawing = draw()
        except Exception as error:  # any text or image of a corpus may break matplotlib
            logger.warning("MLflow: %s cannot be drawn, skipped: %s", path, error)
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


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, truncated and without passwords."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_password(lines[0])[:300]


def _chunks(items: list[Item], size: int) -> list[list[Item]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _nan_to_none(value: Any) -> Any:
    """Replace a NaN or an infinity, which browsers reject in JSON, by None."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
