"""Settings of a run and of its checkpoints."""

from pipeline.settings import Section, setting


class RunSettings(Section):
    name: str = setting(..., "name shown in MLflow (default: NAME-OF-CONFIG)", may_change=True)
    dir: str = setting(..., "folder of the run (default: runs/NAME-OF-CONFIG)", may_change=True)


class CheckpointSettings(Section):
    checkpoint_every: int = setting(200, "updates between checkpoints", ge=1, may_change=True)
    keep_checkpoints: int = setting(
        2, "number of newest checkpoints to keep, besides the best", ge=1, may_change=True
    )
    resume: str = setting(
        "auto",
        "auto: resume from the newest checkpoint; never: require a new run folder; or the path of "
        "a checkpoint",
        may_change=True,
    )
