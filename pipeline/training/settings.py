"""Settings of training: the loop's own, with those of the optimizer and of the checkpoints."""

from typing import Any, Literal

from pipeline.components import make
from pipeline.optim.settings import OptimizerSettings
from pipeline.run.settings import CheckpointSettings
from pipeline.settings import setting


class TrainSettings(OptimizerSettings, CheckpointSettings):
    seed: int = setting(0, "seed of initial weights, row order and dropout", ge=0, lt=2**63)
    epochs: int = setting(
        1,
        "number of passes through the corpus; if not set, more than 1 for a small corpus",
        ge=1,
        may_change=True,
    )
    schedule_epochs: int = setting(
        0,
        "number of epochs that the learning-rate schedule spans, after which the rate keeps its "
        "last value; 0: train.epochs",
        ge=0,
        may_change=True,
    )
    max_steps: int = setting(
        0,
        "stop after N updates; does not change the learning-rate schedule; 0: no limit",
        ge=0,
        may_change=True,
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto",
        "auto: on a GPU the fastest that its hardware and cuDNN support; on a CPU bf16, if the "
        "cell has a compiled loop that multiplies in bf16",
    )
    deterministic: bool = setting(
        False,
        "use deterministic algorithms on a GPU: repeated runs should have bitwise identical "
        "weights, but are slower",
    )
    patience: int = setting(
        0,
        "stop after this many evaluations without improvement; 0: never",
        ge=0,
        may_change=True,
    )
    best_metric: str = setting(
        "",
        "metric that chooses the best checkpoint, and by which train.patience counts; empty: the "
        "task's",
    )
    evaluate_every: int = setting(0, "updates between evaluations; 0: once per epoch", ge=0)
    callbacks: list[str] = setting(
        [], "code that runs at some moments of training, in this order", kind="callback"
    )
    log_every: int = setting(20, "updates between logged metrics", ge=1, may_change=True)


def train_settings(**values: Any) -> TrainSettings:
    """Return settings of training, with the keys of the optimizer and schedule that they choose."""
    return make(TrainSettings, **values)
