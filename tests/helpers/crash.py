"""Run launch/train.py, but kill the process with SIGKILL at a given point of a given step.

    python crash.py POINT STEP [--config FILE] [key=value ...]

The points are:

  update    after the step's update, on every rank
  one rank  after the step's update, on rank 1 only
  save      before the first checkpoint at or after the step is written
  evaluation  in the first evaluation at or after the step, whose checkpoint is written
  results   after that evaluation, before its results are in the checkpoint
  slow evaluation  does not kill the process: each batch of an evaluation takes half a second
  rename    before the step's finished checkpoint folder gets its final name
  links     after the first checkpoint at or after the step has its final name, before the links
            `latest` and `best` are updated

If torchrun restarts the run, only the first attempt is killed.
"""

import os
import runpy
import signal
import sys
import time
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
    from pipeline.training import evaluator, trainer

    original_update, rename = trainer.Trainer._update, Path.rename
    write, update_links = checkpoint.write, checkpoint.update_links
    write_results, check_stop = checkpoint.write_evaluated, evaluator.SplitEvaluator._check_stop

    def dying_update(self: Any, update: Any) -> Any:
        result = original_update(self, update)
        if self.state.step == step and (point == "update" or self.world.rank == 1):
            die()
        return result

    def dying_write(folder: Path, content: Any, keep: int) -> Path:
        if content.state.step >= step:
            die()
        return write(folder, content, keep)

    def dying_results(folder: Path, content: Any, keep: int) -> None:
        if content.state.step >= step:
            die()
        write_results(folder, content, keep)

    def dying_check(self: Any, number: int) -> None:
        if number == 1 and any(folder().glob(f"step-{step:08d}")):
            die()
        check_stop(self, number)

    def folder() -> Path:
        run_dir = next(a for a in sys.argv if a.startswith("run.dir=")).removeprefix("run.dir=")
        return Path(run_dir) / "checkpoints"

    def slow_check(self: Any, number: int) -> None:
        time.sleep(0.5)
        check_stop(self, number)

    def dying_rename(self: Path, target: Any) -> Any:
        if self.name == f".step-{step:08d}.tmp":
            die()
        return rename(self, target)

    def dying_update_links(path: Path) -> None:
        if int(path.name.removeprefix("step-")) >= step:
            die()
        update_links(path)

    if point in ("update", "one rank"):
        trainer.Trainer._update = dying_update  # type: ignore[method-assign]
    elif point == "save":
        checkpoint.write = dying_write
    elif point == "evaluation":
        evaluator.SplitEvaluator._check_stop = dying_check  # type: ignore[method-assign]
    elif point == "results":
        checkpoint.write_evaluated = dying_results
    elif point == "slow evaluation":
        evaluator.SplitEvaluator._check_stop = slow_check  # type: ignore[method-assign]
    elif point == "rename":
        Path.rename = dying_rename  # type: ignore[method-assign]
    elif point == "links":
        checkpoint.update_links = dying_update_links
    else:
        raise ValueError(point)


if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
    patch_training()
runpy.run_path(str(script), run_name="__main__")
