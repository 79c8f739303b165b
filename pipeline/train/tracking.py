"""Copies a run to MLflow, from a thread, and never holds up or kills it.

The run folder is the truth and MLflow its copy:

- `metrics.jsonl`, which the training loop writes, holds the points;
- `reports/*.json` hold what figures and tables are made from, a file each;
- `mlflow.json` says what else MLflow is told of the run, and how the run ended.

A thread follows these files and delivers what MLflow lacks: of each metric the steps past the
last one there, of the artifacts those that are not there. The one rule serves a resumed run, a
killed one, a server that goes away for hours, and a run that is copied later:

    python -m pipeline.train.tracking RUN_DIR [--uri URI]

What was delivered stays, also where a resumed run does its steps again. MLflow knows a run by a
tag that holds its key; a server that has no such run gets all of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

import numpy as np

from pipeline.config import Config, keys
from pipeline.errors import HeadraceError, RunError, TrainingError
from pipeline.train import figures
from pipeline.train.run import write_text
from pipeline.train.settings import TrackSettings

if TYPE_CHECKING:
    from mlflow.entities import Run

    from pipeline.corpus.dataset import Manifest
    from pipeline.stream.plan import Plan
    from pipeline.tasks.task import Evaluation

logger = logging.getLogger(__name__)

Ending = Literal["FINISHED", "FAILED", "KILLED"]
Item = TypeVar("Item")

POLL = 2.0
"""Seconds between looks at the run folder."""
PAUSE = 60.0
"""Seconds after a failure before MLflow is tried again."""
SAMPLE = 10
"""Seconds between samples of CPU, memory and GPU."""
SAMPLED_BLOCKS = 20_000
"""Blocks whose rows make the histogram of lengths; of larger corpora as many, spread evenly."""
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
class Description:
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
    def read(cls, folder: Path) -> Description | None:
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


class Tracker:
    """Follows a run of this process. No method waits for MLflow, except `close` for a while.

    Nothing is handed over but files, so nothing is lost with the process, and `metrics.jsonl`
    needs no word to this class. Raises TrainingError if a package is missing, RunError if the
    run's `mlflow.json` is damaged. What MLflow fails at later is a warning.
    """

    def __init__(
        self,
        settings: TrackSettings,
        folder: Path,
        config: Config,
        manifest: Manifest,
        facts: Mapping[str, str | int | float],
    ) -> None:
        _check_packages(settings)
        self.folder = folder
        self._settings = settings
        self._uri = settings.uri or os.environ.get("MLFLOW_TRACKING_URI") or _default_uri()
        old = Description.read(folder)
        self._description = Description(
            key=old.key if old else uuid.uuid4().hex,
            uri=_without_password(self._uri),
            experiment=settings.experiment,
            name=config.run.name,
            params=_params(config),
            tags={f"headrace.{name}": str(value) for name, value in facts.items()}
            | {"mlflow.source.name": sys.argv[0], "mlflow.source.type": "LOCAL"},
            dataset=_dataset(manifest),
            started=old.started if old else time.time(),
        )
        self._writing = threading.Lock()
        self._description.write(folder)
        self._journal = _Journal(folder / "metrics.jsonl")
        self._monitor: Any = None
        self._failure = "it did not answer in time"
        self._closing = threading.Event()
        self._done = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def evaluation(self, step: int, evaluation: Evaluation, mistakes: list[dict[str, Any]]) -> None:
        """A confusion matrix, where the evaluation has a table, and a table of the mistakes."""
        report = {
            "step": step,
            "table": evaluation.table,
            "labels": list(evaluation.labels),
            "mistakes": mistakes,
        }
        self._report(f"step-{step:08}", report)

    def histogram(self, plan: Plan) -> None:
        """The lengths of a split's rows beside those that its batches are padded to."""
        blocks = np.linspace(0, plan.index.blocks - 1, min(plan.index.blocks, SAMPLED_BLOCKS))
        rows = np.zeros(plan.index.max_length + 1, np.int64)
        for block in blocks.astype(int):
            counts = np.bincount(plan.index.lengths(block))
            rows[: len(counts)] += counts
        self._report("lengths", {"rows": rows.tolist(), "edges": plan.edges.tolist()})

    def close(self, status: Ending, seconds: float = 30.0) -> None:
        """Say how the run ended and wait, `seconds` at most, until MLflow has everything."""
        with self._writing:
            self._description.status, self._description.ended = status, time.time()
            self._description.write(self.folder)
        self._closing.set()
        self._thread.join(seconds)
        if not self._done:
            logger.warning(
                "MLflow at %s lacks the end of the run%s: %s. Copy it there with: "
                "python -m pipeline.train.tracking %s",
                self._description.uri, self._journal.left(), self._failure, self.folder,
            )  # fmt: skip

    def _report(self, name: str, report: dict[str, Any]) -> None:
        folder = self.folder / "reports"
        folder.mkdir(exist_ok=True)
        write_text(folder / f"{name}.json", json.dumps(report, ensure_ascii=False))

    def _work(self) -> None:
        """The thread: deliver what is new, after a failure pause and open MLflow anew."""
        copy: _Copy | None = None
        wait, failing = 0.0, False
        while not self._done:
            closing = self._closing.wait(wait)
            try:
                copy = copy or self._open()
                copy.points(self._journal)
                if closing:
                    if self._monitor:
                        self._monitor.finish()
                    copy.end()
                copy.reports()
                wait, self._done = POLL, closing
                if failing:
                    logger.warning("MLflow is reached again and has everything so far")
                failing = False
            except Exception as error:  # a library's, a server's or a disk's: the run goes on
                self._failure = _first_line(error)
                logger.debug("tracking failed", exc_info=True)
                if closing:
                    return
                if not failing:
                    logger.warning(
                        "MLflow at %s: %s; training goes on, and what MLflow lacks follows when it "
                        "can be reached (tried every %.0f s)",
                        self._description.uri, self._failure, PAUSE,
                    )  # fmt: skip
                copy, wait, failing = None, PAUSE, True

    def _open(self) -> _Copy:
        copy = _Copy(self.folder, self._description, self._uri)
        copy.begin()
        with self._writing:
            self._description.run_id = copy.run_id
            self._description.write(self.folder)
        if self._settings.system_metrics:
            self._sample(copy.run_id)
        return copy

    def _sample(self, run_id: str) -> None:
        """Start MLflow's own sampling. It ends at its first failure, so it begins anew with us."""
        module: Any = import_module("mlflow.system_metrics.system_metrics_monitor")
        if self._monitor:
            self._monitor.finish()
        self._monitor = module.SystemMetricsMonitor(
            run_id, sampling_interval=SAMPLE, resume_logging=True, tracking_uri=self._uri
        )
        self._monitor.start()


def replay(folder: Path, uri: str = "") -> str:
    """Deliver what MLflow lacks of a run that has ended; return the id it has there.

    `uri` is where to; by default where the run was tracked. Raises RunError if the run was never
    tracked, TrainingError if MLflow cannot be reached or refuses.
    """
    description = Description.read(folder)
    if description is None:
        raise RunError(f"{folder}: has no mlflow.json, was not tracked; see track.enabled")
    try:
        copy = _Copy(folder, description, uri or description.uri)
        copy.points(_Journal(folder / "metrics.jsonl"))
        if description.status != "RUNNING":
            copy.end()
        copy.reports()
    except Exception as error:
        where = _without_password(uri) or description.uri
        raise TrainingError(f"MLflow at {where}: {_first_line(error)}; give --uri?") from error
    return copy.run_id


class _Journal:
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


class _Copy:
    """The run as MLflow has it. Everything raises what MLflow raises; then make a new one."""

    def __init__(self, folder: Path, description: Description, uri: str) -> None:
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

    def points(self, journal: _Journal) -> None:
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
            if path.name not in self._reported:
                self._log_report(path.stem, json.loads(path.read_text(encoding="utf-8")))
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
            if artifact.path in ("confusion", "mistakes"):
                inside = self._client.list_artifacts(self.run_id, artifact.path)
                found |= {file.path for file in inside}
        return found

    def _log_report(self, name: str, report: dict[str, Any]) -> None:
        if name == "lengths":
            if (path := "lengths.png") not in self._artifacts:
                figure = figures.length_histogram(report["rows"], report["edges"])
                self._client.log_figure(self.run_id, figure, path)
            return
        if report["table"] and (path := f"confusion/{name}.png") not in self._artifacts:
            figure = figures.confusion_matrix(
                report["table"], report["labels"], f"step {report['step']}"
            )
            self._client.log_figure(self.run_id, figure, path)
        if report["mistakes"] and (path := f"mistakes/{name}.json") not in self._artifacts:
            self._log_table(path, report["mistakes"])

    def _log_table(self, path: str, rows: list[dict[str, Any]]) -> None:
        """As `MlflowClient.log_table`, which however adds to a table that is there when a call is
        tried again, and lists all tables of a run in a tag until that is too long."""
        columns = list(rows[0])
        data = [[_finite(row.get(column)) for column in columns] for row in rows]
        self._client.log_text(self.run_id, json.dumps({"columns": columns, "data": data}), path)
        self._tables = [*self._tables, path][-LISTED_TABLES:]
        listed = [{"path": table, "type": "table"} for table in self._tables]
        self._client.set_tag(self.run_id, TABLES, json.dumps(listed))


def _check_packages(settings: TrackSettings) -> None:
    wanted = ["mlflow", "matplotlib"] + ["psutil"] * settings.system_metrics
    missing = [name for name in wanted if find_spec(name) is None]
    if missing:
        raise TrainingError(
            f"track.enabled=true: tracking needs {' and '.join(missing)}, not installed here; "
            f"pip install headrace[track], or set track.enabled=false"
        )


def _default_uri() -> str:
    """Where a plain `mlflow ui` in this folder looks; artifacts lie in ./mlruns beside it."""
    return f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def _without_password(uri: str) -> str:
    """The URI as it may be shown and stored."""
    user = urlsplit(uri).netloc.rpartition("@")[0]
    return uri.replace(f"{user}@", "", 1) if user else uri


def _params(config: Config) -> dict[str, str]:
    """The config's dotted keys, values as text that MLflow takes: 6,000 characters at most."""
    values: dict[str, Any] = {}
    for key, _ in keys():
        values[key] = reduce(getattr, key.split("."), config)
    values["track.uri"] = _without_password(config.track.uri)
    return {key: _text(value)[:6000] for key, value in values.items()}


def _text(value: Any) -> str:
    is_json = isinstance(value, (list, dict))
    return json.dumps(value, ensure_ascii=False) if is_json else str(value)


def _dataset(manifest: Manifest) -> dict[str, str]:
    train = manifest.splits["train"]
    return {
        "name": manifest.path.name,
        "digest": manifest.fingerprint[:16],
        "source_type": "local",
        "source": json.dumps({"uri": str(manifest.path.absolute())}),
        "profile": json.dumps({"rows": train.rows, "tokens": train.tokens}),
    }


def _sliced(items: list[Item], size: int) -> list[list[Item]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _finite(value: Any) -> Any:
    """JSON as browsers read it has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def main() -> None:
    parser = argparse.ArgumentParser(description="Copy to MLflow what it lacks of a run.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--uri", default="", help="default: where the run was tracked")
    arguments = parser.parse_args()
    try:
        print(f"MLflow run {replay(arguments.run_dir, arguments.uri)} has everything")
    except HeadraceError as error:
        print(*error.lines, sep="\n", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
