"""Copies a run to MLflow, from a thread, and never holds up or kills it.

The run folder is the truth and MLflow its copy:

- `metrics.jsonl`, which the training loop writes, holds the points;
- `reports/*.json` hold what figures and tables are made from, a file each;
- `mlflow.json` says what else MLflow is told of the run, and how the run ended.

A thread follows these files and delivers what MLflow lacks: of each metric the steps past the
last one there, of the artifacts those that are not there. The one rule serves a resumed run, a
killed one, a server that goes away for hours, and a run that is copied later:

    python -m pipeline.tracking.tracker RUN_DIR [--uri URI]

What was delivered stays, also where a resumed run does its steps again. MLflow knows a run by a
tag that holds its key; a server that has no such run gets all of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
import sys
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from functools import reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import Config, keys
from pipeline.errors import HeadraceError, RunError, TrainingError
from pipeline.run.folder import write_text
from pipeline.storage.base import is_url
from pipeline.tasks.sample import SAMPLES, Sample
from pipeline.tracking.mlflow_copy import Ending, Journal, MlflowCopy, RunDescription
from pipeline.tracking.settings import TrackSettings

if TYPE_CHECKING:
    from pipeline.corpus.dataset.manifest import Manifest
    from pipeline.stream.plan import Plan
    from pipeline.tasks.task import Evaluation

logger = logging.getLogger(__name__)

POLL = 2.0
"""Seconds between looks at the run folder."""
PAUSE = 60.0
"""Seconds after a failure before MLflow is tried again."""
SAMPLE = 10
"""Seconds between samples of CPU, memory and GPU."""
SAMPLED_BLOCKS = 20_000
"""Blocks whose rows make the histogram of lengths; of larger corpora as many, spread evenly."""


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
        old = RunDescription.read(folder)
        self._description = RunDescription(
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
        self._journal = Journal(folder / "metrics.jsonl")
        self._monitor: Any = None
        self._failure = "it did not answer in time"
        self._closing = threading.Event()
        self._done = False
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def evaluation(
        self,
        step: int,
        evaluation: Evaluation,
        mistakes: Sequence[Mapping[str, Any]],
        pages: Mapping[str, list[Sample]] | None = None,
    ) -> None:
        """A confusion matrix, where the evaluation has a table, a table of the mistakes, and pages
        of samples by the folders that they go to."""
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
        self._report(f"step-{step:08}", report)

    def histogram(self, plan: Plan) -> None:
        """The lengths of a split's rows beside those that its batches are padded to."""
        index = plan.sources[0].index
        sample = np.linspace(0, index.blocks - 1, min(index.blocks, SAMPLED_BLOCKS))
        lengths = np.concatenate([block.lengths for block in index.read(sample.astype(np.int64))])
        rows = np.bincount(lengths, minlength=index.max_length + 1)
        report = {"rows": rows.tolist(), "edges": plan.edges.tolist(), "total": index.rows}
        self._report("lengths", report)

    def close(self, status: Ending, seconds: float = 30.0) -> None:
        """Say how the run ended and wait, `seconds` at most, until MLflow has everything."""
        with self._writing:
            self._description.status, self._description.ended = status, time.time()
            self._description.write(self.folder)
        self._closing.set()
        self._thread.join(seconds)
        if not self._done:
            logger.warning(
                "MLflow at %s lacks the end of the run%s: %s. MlflowCopy it there with: "
                "python -m pipeline.tracking.tracker %s",
                self._description.uri, self._journal.left(), self._failure, self.folder,
            )  # fmt: skip

    def _report(self, name: str, report: dict[str, Any]) -> None:
        folder = self.folder / "reports"
        folder.mkdir(exist_ok=True)
        write_text(folder / f"{name}.json", json.dumps(report, ensure_ascii=False))

    def _work(self) -> None:
        """The thread: deliver what is new, after a failure pause and open MLflow anew."""
        copy: MlflowCopy | None = None
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

    def _open(self) -> MlflowCopy:
        copy = MlflowCopy(self.folder, self._description, self._uri)
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
    description = RunDescription.read(folder)
    if description is None:
        raise RunError(f"{folder}: has no mlflow.json, was not tracked; see track.enabled")
    try:
        copy = MlflowCopy(folder, description, uri or description.uri)
        copy.points(Journal(folder / "metrics.jsonl"))
        if description.status != "RUNNING":
            copy.end()
        copy.reports()
    except Exception as error:
        where = _without_password(uri) or description.uri
        raise TrainingError(f"MLflow at {where}: {_first_line(error)}; give --uri?") from error
    return copy.run_id


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


def _without_password(text: str) -> str:
    """A URI, or a text with URIs, as it may be shown and stored."""
    return re.sub(r"(://)[^/\s]+@", r"\1", text)


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
    location, train = manifest.location, manifest.splits.get("train")
    remote = is_url(location)
    return {
        "name": location.rstrip("/").rsplit("/", 1)[-1],
        "digest": manifest.fingerprint[:16],
        "source_type": "remote" if remote else "local",
        "source": json.dumps({"uri": location if remote else str(manifest.path.absolute())}),
        "profile": json.dumps({"rows": train.rows, "tokens": train.tokens} if train else {}),
    }


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return _without_password(lines[0])[:300]


def main() -> None:
    parser = argparse.ArgumentParser(description="MlflowCopy to MLflow what it lacks of a run.")
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
