"""The short summary that ends a run, kept so that a finished run can show it again."""

import json
import os
import re
from typing import Any

from pipeline.config import Config
from pipeline.run.folder import RunFolder, write_text
from pipeline.tasks.settings import IMAGE_TASKS
from pipeline.tasks.task import Evaluation
from pipeline.train.trainer import Trainer


def write(trainer: Trainer, evaluation: Evaluation, folder: RunFolder) -> None:
    state = trainer.state
    values = {
        "step": state.step,
        "epochs": state.rows / trainer.loader.rows_before(1),
        "metric": trainer.task.best_metric,
        "validation": evaluation.metrics,
        "signatures": dict(evaluation.signatures),
        "best": state.best,
        "best_step": state.best_step,
        "seconds": state.seconds,
        "tokens_per_s": state.tokens / state.seconds,
    }
    write_text(folder.summary, json.dumps(values, indent=1) + "\n")


def is_of(folder: RunFolder, step: int) -> bool:
    """Whether the folder has a summary of the run as it stands at `step`."""
    return folder.summary.exists() and _read(folder)["step"] == step


def describe(config: Config, folder: RunFolder) -> str:
    """The summary for a person, and what to type next."""
    lines = []
    if folder.summary.exists():
        s = _read(folder)
        name = s["metric"]
        best = f", best {s['best']:.4f} at step {s['best_step']}" if s["best"] is not None else ""
        lines.append(f"validation  {name} {s['validation'][name]:.4f} at step {s['step']}{best}")
        lines.append(
            f"speed       {s['tokens_per_s']:,.0f} tokens/s without padding, "
            f"{s['seconds']:.0f} s of training, {s['epochs']:.2f} epochs"
        )
    lines.append(f"run folder  {folder.path}")
    example = "'A fine film.'"
    if config.task.name in IMAGE_TASKS:
        example = "features.npy" if config.corpus.features else "image.png"
    if config.track.enabled:
        lines.append(f"watch       {_watch(config.track.uri)}")
    lines += [
        f"predict     echo {example} | python launch/predict.py --run {folder.path}",
        "resume      the same command goes on where a run was stopped; train.epochs=N prolongs it",
    ]
    return "\n".join(lines)


def _watch(uri: str) -> str:
    """What to type, or the address to open, to see the run in MLflow."""
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if uri.startswith("http"):
        return re.sub(r"//[^/@]*@", "//", uri)  # without a password
    return f"mlflow ui --backend-store-uri {uri}" if uri else "mlflow ui"


def _read(folder: RunFolder) -> dict[str, Any]:
    return dict(json.loads(folder.summary.read_text()))
