"""Start launch/prepare.py and launch/train.py as a user does, and read the training speed."""

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
    """Prepare the dataset if it does not exist; its log goes to stderr, apart from the table."""
    command = [sys.executable, str(LAUNCH / "prepare.py"), *_config_option(config), *overrides]
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise SystemExit(2)


def train(
    folder: Path, steps: int, processes: int, overrides: Sequence[str], config: Path | None = None
) -> float:
    """Train in `folder`/run, tracked in MLflow; return the non-padding tokens per second.

    `steps` must be at least 5. The first fifth counts as start-up and is not measured, because
    MLflow is imported at the same time.
    """
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc_per_node={processes}", str(LAUNCH / "train.py")),
        *(*_config_option(config), *overrides),
        *(f"train.max_steps={steps}", f"train.log_every={steps // 5}"),
        *(f"run.dir={folder}/run", f"track.uri=sqlite:///{folder}/mlflow.db"),
        "track.log_model=false",
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.run(command, env=env, capture_output=True, text=True)
    if process.returncode:
        raise SystemExit(f"error: command failed: {' '.join(command)}\n{process.stderr}")
    lines = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    speeds = [line["perf/tokens_per_s"] for line in lines if "perf/tokens_per_s" in line]
    return statistics.harmonic_mean(speeds[1:5])


def _config_option(config: Path | None) -> list[str]:
    return ["--config", str(config)] if config else []
