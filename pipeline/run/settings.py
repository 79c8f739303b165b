"""Settings of a run and of its checkpoints."""

from pipeline.settings import FilePath, Section, setting


class RunSettings(Section):
    name: str = setting(
        ...,
        "name shown in MLflow (default: that of the config or, without one, of the input)",
        min_length=1,
        may_change=True,
    )
    dir: FilePath = setting(
        ..., "folder of the run (default: runs/NAME-OF-RUN)", min_length=1, may_change=True
    )


class CheckpointSettings(Section):
    checkpoint_every: int = setting(200, "updates between checkpoints", ge=1, may_change=True)
    keep_checkpoints: int = setting(
        2, "number of newest checkpoints to keep, besides the best", ge=1, may_change=True
    )
    resume: FilePath = setting(
        "auto",
        "auto: resume from the newest checkpoint; never: require a new run folder; or the path of "
        "a checkpoint",
        may_change=True,
    )
