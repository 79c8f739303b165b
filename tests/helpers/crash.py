"""Run launch/train.py, but kill the process with SIGKILL at a given point of a given step.

    python crash.py POINT STEP [--config FILE] [key=value ...]

The points are:

  update    after the step's update, on every rank
  one rank  after the step's update, on rank 1 only
  save      before the first checkpoint at or after the step is saved; an evaluation that is due at
            the same step has already run
  rename    before the step's finished checkpoint folder gets its final name
  point     before the first checkpoint at or after the step becomes the latest one

If torchrun restarts the run, only the first attempt is killed.
"""

import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

point, step = sys.argv[1], int(sys.argv[2])
script = Path(__file__).parents[2] / "launch" / "train.py"
sys.argv = [str(script), *sys.argv[3:]]


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def patch_training() -> None:
    """Replace the function at POINT by one that kills the process at STEP."""
    from pipeline.run import checkpoint
    from pipeline.train import trainer

    update, save, rename = trainer.Trainer._update, checkpoint.save, Path.rename
    point_to = checkpoint.point_to

    def dying_update(self: Any, *args: Any) -> Any:
        result = update(self, *args)
        if self.state.step == step and (point == "update" or self.world.rank == 1):
            die()
        return result

    def dying_save(folder: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        if state.step >= step:
            die()
        return save(folder, state, *args, **kwargs)

    def dying_rename(self: Path, target: Any) -> Any:
        if self.name == f".tmp-step-{step:08d}":
            die()
        return rename(self, target)

    def dying_point_to(path: Path) -> None:
        if int(path.name.removeprefix("step-")) >= step:
            die()
        point_to(path)

    if point == "point":
        checkpoint.point_to = dying_point_to
    elif point in ("update", "one rank"):
        trainer.Trainer._update = dying_update  # type: ignore[method-assign]
    elif point == "save":
        checkpoint.save = dying_save
    elif point == "rename":
        Path.rename = dying_rename  # type: ignore[method-assign]


if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
    patch_training()
runpy.run_path(str(script), run_name="__main__")
