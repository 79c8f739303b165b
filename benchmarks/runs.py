"""Runs of launch/train.py as a user starts them, and how fast they trained."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
LAUNCH = REPOSITORY / "launch"


def prepare(overrides: Sequence[str], config: Path | None = None) -> None:
    """Make the dataset, if it is not there. What that tells goes beside the table."""
    command = [sys.executable, str(LAUNCH / "prepare.py"), *_given(config), *overrides]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise SystemExit(2)


def train(
    folder: Path, steps: int, processes: int, overrides: Sequence[str], config: Path | None = None
) -> float:
    """Non-padding tokens per second of a run in `folder`/run, tracked in MLflow. Its steps are five
    or more; the first fifth of them, in which MLflow is imported beside them, is start-up."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc_per_node={processes}", str(LAUNCH / "train.py"), *_given(config), *overrides),
        *(f"train.max_steps={steps}", f"train.log_every={steps // 5}"),
        *(f"run.dir={folder}/run", f"track.uri=sqlite:///{folder}/mlflow.db"),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    speeds = [line["perf/tokens_per_s"] for line in lines if "perf/tokens_per_s" in line]
    return statistics.harmonic_mean(speeds[1:5])


def _given(config: Path | None) -> list[str]:
    return ["--config", str(config)] if config else []
