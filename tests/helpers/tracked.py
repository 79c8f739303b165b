"""Tracking without a training loop, a view of their MLflow runs, and an MLflow server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from pipeline import config as config_file
from pipeline.tasks.base.sample import ImageData, Sample, TextSpan
from pipeline.tasks.base.task import Evaluation
from pipeline.tracking.base import Highlights
from pipeline.tracking.tracking import Tracking

EVALUATION = Evaluation({"loss": 0.5}, [[30, 10], [5, 55]], ["negative", "positive"])
MISTAKE = {"text": "not bad", "label": "positive", "predicted": "negative", "probability": 0.9}
SHOWN = [
    Sample({"true": [TextSpan("a film", "NP"), TextSpan("is")]}),
    Sample({"label": "3"}, ImageData.of(np.zeros((4, 4, 1)))),
]
PLAN: Any = SimpleNamespace(
    sources=[
        SimpleNamespace(
            index=SimpleNamespace(
                blocks=2,
                rows=4,
                max_length=9,
                read=lambda blocks: [SimpleNamespace(lengths=np.array([3, 9 - b])) for b in blocks],
            )
        )
    ],
    edges=np.array([8, 9]),
)

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"


def start(folder, uri, *overrides, **facts):
    """Start MLflow's tracker as a training run does, in an experiment named after the folder.

    `overrides` are of the config; `facts` are logged as tags.
    """
    defaults = [
        f"track.uri='{uri}'", f"track.experiment={folder}", "track.system_metrics=false",
        "track.log_model=false",
    ]  # fmt: skip
    return start_trackers(folder, ["mlflow"], *defaults, *overrides, **facts)


def start_trackers(folder, trackers, *overrides, **facts):
    """Start trackers as a training run does."""
    defaults = [f"run.dir={folder}", f"track.trackers=[{', '.join(trackers)}]"]
    config = config_file.load(None, [*defaults, *overrides])
    train_split = SimpleNamespace(rows=90, tokens=4000)
    manifest: Any = SimpleNamespace(
        location="data/shards/imdb",
        path=Path("data/shards/imdb"),
        fingerprint="0123456789abcdef" * 4,
        splits={"train": train_split},
    )
    params = config_file.flatten(config)
    predict = f"echo 'A film.' | headrace predict --run {folder}"
    highlights = Highlights(config_file.changed_settings(config), predict)
    return Tracking(config.track, folder, config.run.name, params, manifest, facts, highlights)


CHILD = """
import sys
import time
from pathlib import Path
sys.path.insert(0, {root!r})
from pipeline.tracking import follower
from tests.helpers.tracked import log, start_trackers
folder, follower.POLL_SECONDS = Path({folder!r}), 0.05
tracking = start_trackers(folder, [{tracker!r}])
log(folder, range(1, 4))
time.sleep(60)
"""


def delivered_before_kill(folder, tracker, check):
    """Log steps 1 to 3 in a process with a tracker, and kill it when `check()` is true."""
    root = str(Path(__file__).parents[2])
    code = CHILD.format(root=root, folder=str(folder), tracker=tracker)
    env = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}
    with subprocess.Popen([sys.executable, "-c", code], env=env) as child:
        eventually(check, 60)
        child.send_signal(signal.SIGKILL)


def log(folder, steps, **metrics):
    """Append a line to `metrics.jsonl` for each step."""
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            values = {"train/loss": 1 / step, "optim/lr": 0.001, **metrics}
            file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")


class Stored:
    """The runs of an experiment as stored in MLflow."""

    def __init__(self, uri, experiment):
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        self.experiment = self.client.get_experiment_by_name(str(experiment))
        self.runs = (
            self.client.search_runs([self.experiment.experiment_id]) if self.experiment else []
        )

    @property
    def run(self):
        (run,) = self.runs
        return run

    def steps(self, key="train/loss"):
        history = self.client.get_metric_history(self.run.info.run_id, key)
        return sorted(metric.step for metric in history)

    def artifacts(self, path=None):
        return sorted(f.path for f in self.client.list_artifacts(self.run.info.run_id, path))

    def artifact(self, path):
        return Path(self.client.download_artifacts(self.run.info.run_id, path)).read_bytes()


def eventually(check, seconds=30):
    """Wait until `check()` is true; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "the condition was never met"
        time.sleep(0.05)


def json_run_id(folder):
    path = folder / "mlflow.json"
    return path.exists() and json.loads(path.read_text())["run_id"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A plain `mlflow server` (which `mlflow ui` also starts) with its store in a folder."""

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self):
        if self.process is None:
            command = [sys.executable, "-m", "mlflow", "server", "--workers", "1"]
            with (self.folder / "server.log").open("a") as file:
                self.process = subprocess.Popen(
                    [*command, "--port", str(self.port)],
                    cwd=self.folder,
                    env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
                    stdout=file,
                    stderr=file,
                    start_new_session=True,
                )
            eventually(self.healthy, 60)

    def healthy(self):
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=1) as response:
                return response.status == 200
        except OSError:
            return False

    def kill(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
