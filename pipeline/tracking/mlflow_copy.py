"""A run as MLflow has it, and what of the run folder is still to be delivered there."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pipeline.errors import RunError
from pipeline.run.folder import write_text
from pipeline.tasks.sample import SAMPLES
from pipeline.tracking import html_report, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

Ending = Literal["FINISHED", "FAILED", "KILLED"]
Item = TypeVar("Item")

LISTED_TABLES = 50
"""Newest tables that the UI shows as such: it finds them in one tag, whose length is limited."""

KEY, CHANGED, TABLES = "headrace.run", "headrace.changed.", "mlflow.loggedArtifacts"
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; by default a closed port blocks for minutes
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
"""Set where the user has set nothing."""


@dataclass
class RunDescription:
    """What MLflow is told of a run beside points and artifacts: `mlflow.json`."""

    key: str
    """Identifies the run on every server."""
    uri: str
    """Where it is tracked, without a password."""
    experiment: str
    name: str
    params: dict[str, str]
    tags: dict[str, str]
    dataset: dict[str, str]
    """name, digest, source_type, source, profile, as MLflow's entity has them."""
    started: float
    """Unix seconds, of the first start."""
    status: Ending | Literal["RUNNING"] = "RUNNING"
    ended: float = 0.0
    """Unix seconds."""
    run_id: str = ""
    """MLflow's; for people and programs that look for the run there."""

    @classmethod
    def read(cls, folder: Path) -> RunDescription | None:
        """The run's; None if it was never tracked. Raises RunError if it is damaged."""
        path = folder / "mlflow.json"
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError) as error:
            raise RunError(
                f"{path}: cannot be read ({error}), so that the run is not found again in MLflow; "
                f"delete it, and tracking begins a new MLflow run"
            ) from None

    def write(self, folder: Path) -> None:
        write_text(folder / "mlflow.json", json.dumps(asdict(self), indent=1, ensure_ascii=False))


class Journal:
    """`metrics.jsonl`, read from where the last delivered line ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        """Bytes that MLflow has."""

    def batches(self, lines: int = 100) -> Iterator[list[tuple[str, float, int, int]]]:
        """The points of up to so many whole lines: key, value, unix milliseconds, step.

        What a batch was made of counts as delivered when the next is asked for.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.offset)
            whole = (line for line in file if line.endswith(b"\n"))
            while batch := list(islice(whole, lines)):
                yield [point for line in batch for point in self._points(line)]
                self.offset += sum(map(len, batch))

    def left(self) -> str:
        if not self.path.exists():
            return ""
        left = self.path.read_bytes().count(b"\n", self.offset)
        return f" and up to {left} lines of {self.path.name}" if left else ""

    def _points(self, line: bytes) -> Iterator[tuple[str, float, int, int]]:
        try:
            values = json.loads(line)
            step, milliseconds = int(values.pop("step")), int(values.pop("time") * 1000)
        except (ValueError, TypeError, AttributeError, KeyError):
            logger.warning("%s: not a line of metrics, left out: %.80r", self.path, line)
            return
        for key, value in values.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                yield key, float(value), milliseconds, step


class MlflowCopy:
    """The run as MLflow has it. Everything raises what MLflow raises; then make a new one."""

    def __init__(self, folder: Path, description: RunDescription, uri: str) -> None:
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for library in ("mlflow", "alembic", "urllib3.connectionpool"):
            logging.getLogger(library).setLevel(logging.ERROR)  # this module says it in one line
        self._folder, self._description = folder, description
        self._client = MlflowClient(tracking_uri=uri)
        run = self._find() or self._create()
        self.run_id: str = run.info.run_id
        self._steps = {metric.key: metric.step for metric in run.data.to_proto().metrics}
        self._tables = [table["path"] for table in json.loads(run.data.tags.get(TABLES, "[]"))]
        self._reported: set[str] = set()
        self._artifacts = self._list()
        self._describe(run)

    def begin(self) -> None:
        """The run goes on, also if it had ended or was left behind as running."""
        self._client.update_run(self.run_id, status="RUNNING", name=self._description.name)

    def points(self, journal: Journal) -> None:
        """Log the points past the last step of their metric."""
        from mlflow.entities import Metric

        for batch in journal.batches():
            fresh = []
            for key, value, milliseconds, step in batch:
                if step > self._steps.get(key, -1):
                    self._steps[key] = step
                    fresh.append(Metric(key, value, milliseconds, step))
            for some in _sliced(fresh, 1000):
                self._client.log_batch(self.run_id, metrics=some)

    def reports(self) -> None:
        """Log the figures and tables that are not there."""
        for path in sorted((self._folder / "reports").glob("*.json")):
            if path.name in self._reported:
                continue
            try:
                report = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:  # cut short where the power went: it holds up no other
                logger.warning("%s: is no JSON, so MLflow does not get it", path)
            else:
                self._log_report(path.stem, report)
            self._reported.add(path.name)

    def end(self) -> None:
        milliseconds = int(self._description.ended * 1000)
        self._client.set_terminated(self.run_id, self._description.status, milliseconds)

    def _find(self) -> Run | None:
        client, name = self._client, self._description.experiment
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return None
        mine = f"tags.`{KEY}` = '{self._description.key}'"
        runs = client.search_runs([experiment.experiment_id], mine, max_results=1)
        return client.get_run(runs[0].info.run_id) if runs else None

    def _create(self) -> Run:
        client, description = self._client, self._description
        name = description.experiment
        experiment = client.get_experiment_by_name(name)
        return client.create_run(
            experiment.experiment_id if experiment else client.create_experiment(name),
            start_time=int(description.started * 1000),
            tags={KEY: description.key},
            run_name=description.name,
        )

    def _describe(self, run: Run) -> None:
        """Tags, dataset and the params that are new; one that changed keeps its value and is told
        of by a tag."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param, RunTag

        old, new = run.data.params, self._description.params
        changed = {
            f"{CHANGED}{key}": f"{old[key][:1000]} -> {value[:1000]}"
            for key, value in new.items()
            if old.get(key, value) != value
        }
        for tag in run.data.tags:
            if tag.startswith(CHANGED) and tag not in changed:
                self._client.delete_tag(self.run_id, tag)
        params = [Param(key, value) for key, value in new.items() if key not in old]
        tags = [RunTag(key, value) for key, value in (self._description.tags | changed).items()]
        for some_params in _sliced(params, 100):
            self._client.log_batch(self.run_id, params=some_params)
        for some_tags in _sliced(tags, 100):
            self._client.log_batch(self.run_id, tags=some_tags)
        context = [InputTag("mlflow.data.context", "training")]
        dataset = DatasetInput(Dataset(**self._description.dataset), context)
        self._client.log_inputs(self.run_id, datasets=[dataset])

    def _list(self) -> set[str]:
        """The artifacts that are there, of the folders that reports go to."""
        found = set()
        for artifact in self._client.list_artifacts(self.run_id):
            found.add(artifact.path)
            if artifact.path in ("confusion", "mistakes", "samples"):
                inside = self._client.list_artifacts(self.run_id, artifact.path)
                found |= {file.path for file in inside}
        return found

    def _log_report(self, name: str, report: dict[str, Any]) -> None:
        if name == "lengths":
            self._log_drawn("lengths.png", lambda: plots.length_histogram(**report))
            return
        title = f"step {report['step']}"
        if report["table"]:
            told = (report["table"], report["labels"], title, report["counted"])
            self._log_drawn(f"confusion/{name}.png", lambda: plots.confusion_matrix(*told))
        if report["mistakes"] and (path := f"mistakes/{name}.json") not in self._artifacts:
            self._log_table(path, report["mistakes"])
        for folder, dumped in report["pages"].items():
            samples = SAMPLES.validate_python(dumped)
            draw = partial(html_report.page, f"{folder}, {title}", samples)
            self._log_drawn(f"{folder}/{name}.html", draw)

    def _log_drawn(self, path: str, draw: Callable[[], Figure | str]) -> None:
        """Log a figure or a page that is not there. One that cannot be drawn is left out, and holds
        up no other."""
        if path in self._artifacts:
            return
        try:
            drawn = draw()
        except Exception as error:  # matplotlib's, of whatever a text or a picture holds
            logger.warning("MLflow: %s cannot be drawn and is left out: %s", path, error)
            return
        if isinstance(drawn, str):
            self._client.log_text(self.run_id, drawn, path)
        else:
            self._client.log_figure(self.run_id, drawn, path)

    def _log_table(self, path: str, rows: list[dict[str, Any]]) -> None:
        """As `MlflowClient.log_table`, which however adds to a table that is there when a call is
        tried again, and lists all tables of a run in a tag until that is too long."""
        columns = list(rows[0])
        data = [[_finite(row.get(column)) for column in columns] for row in rows]
        self._client.log_text(self.run_id, json.dumps({"columns": columns, "data": data}), path)
        self._tables = [*self._tables, path][-LISTED_TABLES:]
        listed = [{"path": table, "type": "table"} for table in self._tables]
        self._client.set_tag(self.run_id, TABLES, json.dumps(listed))


def _sliced(items: list[Item], size: int) -> list[list[Item]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _finite(value: Any) -> Any:
    """JSON as browsers read it has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
