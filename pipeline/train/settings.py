"""Settings of a run, its training and its tracking."""

from typing import Literal

from pipeline.settings import Section, setting


class RunSettings(Section):
    name: str = setting(..., "name shown in MLflow (default: NAME-OF-CONFIG)", may_change=True)
    dir: str = setting(..., "folder of the run (default runs/NAME-OF-CONFIG)", may_change=True)


class TrainSettings(Section):
    seed: int = setting(0, "of initial weights, order of rows and dropout", ge=0, lt=2**63)
    epochs: int = setting(1, "passes over the corpus", ge=1, may_change=True)
    max_steps: int = setting(
        0, "stop after so many updates, the schedule unbent; 0: no limit", ge=0, may_change=True
    )
    lr: float = setting(1e-3, "highest learning rate", gt=0)
    warmup: float = setting(0.05, "share of all rows over which the rate rises", ge=0, lt=1)
    lr_end: float = setting(0.0, "share of the rate left at the end of the cosine", ge=0, le=1)
    weight_decay: float = setting(0.01, "AdamW's, on matrices other than embeddings", ge=0)
    embedding_decay: float = setting(0.0, "AdamW's, on embeddings: forgets rare tokens", ge=0)
    layer_decay: float = setting(
        1.0,
        "the rate of each recurrent layer, and of the embedding below, as a share of that of the "
        "layer above (ULMFiT: 0.38)",
        gt=0,
        le=1,
    )
    unfreeze: float = setting(
        0.0,
        "epochs after which one layer more, from the top, begins to be trained, in the end the "
        "embedding; 0: all from the start",
        ge=0,
    )
    clip: float = setting(1.0, "greatest norm of the gradient; 0: not clipped", ge=0)
    average: float = setting(
        0.0, "decay an update of averaged weights, evaluated and used instead; 0: none", ge=0, lt=1
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = setting(
        "auto", "auto tries one step and takes the fastest that works"
    )
    patience: int = setting(
        0, "evaluations without a better one after which to stop; 0: never", ge=0, may_change=True
    )
    evaluate_every: int = setting(0, "updates between evaluations; 0: each epoch", ge=0)
    checkpoint_every: int = setting(200, "updates between checkpoints", ge=1, may_change=True)
    keep_checkpoints: int = setting(2, "newest kept, beside the best", ge=1, may_change=True)
    log_every: int = setting(20, "updates between logged metrics", ge=1, may_change=True)
    resume: str = setting(
        "auto",
        "auto: from the newest checkpoint; never: start in an unused folder; or a checkpoint",
        may_change=True,
    )


class TrackSettings(Section):
    enabled: bool = setting(True, "track the run in MLflow", may_change=True)
    uri: str = setting(
        "",
        "MLflow tracking URI; empty: MLFLOW_TRACKING_URI, else SQLite in this folder",
        may_change=True,
    )
    experiment: str = setting("headrace", "MLflow experiment", may_change=True)
    system_metrics: bool = setting(True, "sample CPU, memory and GPU", may_change=True)
