"""Tracked runs without training, what MLflow stored of them, and a server of it."""

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

import numpy as np

from pipeline import config as config_file
from pipeline.tasks.sample import ImageData, Sample, TextSpan
from pipeline.tasks.task import Evaluation
from pipeline.tracking.tracker import Tracker

EVALUATION = Evaluation({"loss": 0.5}, [[30, 10], [5, 55]], ["negative", "positive"])
MISTAKE = {"text": "not bad", "label": "positive", "predicted": "negative", "probability": 0.9}
SHOWN = [
    Sample({"true": [TextSpan("a film", "NP"), TextSpan("is")]}),
    Sample({"label": "3"}, ImageData.of(np.zeros((4, 4, 1)))),
]
PLAN = SimpleNamespace(
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
    """A tracker as the training loop builds it; the experiment is the folder's own."""
    settings = [
        f"run.dir={folder}",
        f"track.uri='{uri}'",
        f"track.experiment={folder}",
        "track.system_metrics=false",
    ]
    config = config_file.load(None, [*settings, *overrides])
    split = SimpleNamespace(rows=90, tokens=4000)
    manifest = SimpleNamespace(
        location="data/shards/imdb",
        path=Path("data/shards/imdb"),
        fingerprint="0123456789abcdef" * 4,
        splits={"train": split},
    )
    return Tracker(config.track, folder, config, manifest, facts)


def log(folder, steps, **metrics):
    with (folder / "metrics.jsonl").open("a") as file:
        for step in steps:
            values = {"train/loss": 1 / step, "optim/lr": 0.001, **metrics}
            file.write(json.dumps({"step": step, "time": time.time(), **values}) + "\n")


class Stored:
    """The runs of a folder's experiment, as MLflow has them."""

    def __init__(self, uri, experiment):
        from mlflow import MlflowClient

        self.client = MlflowClient(uri)
        found = self.client.get_experiment_by_name(str(experiment))
        self.runs = self.client.search_runs([found.experiment_id]) if found else []

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
    until = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


def json_run_id(folder):
    path = folder / "mlflow.json"
    return path.exists() and json.loads(path.read_text())["run_id"]


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A plain `mlflow server`, as `mlflow ui` is one, in a folder."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
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
        assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.address}/health", timeout=1) as answer:
                return answer.status == 200
        except OSError:
            return False

    def kill(self):
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
