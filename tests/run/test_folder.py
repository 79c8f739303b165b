"""Only one process at a time writes to a run folder."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.errors import RunError
from pipeline.run import checkpoint
from pipeline.run.checkpoint import Checkpoint, TrainingState
from pipeline.run.folder import RunFolder
from tests.helpers.processes import start


def write_checkpoint(folder: RunFolder, step: int, best_step: int) -> Path:
    state = TrainingState(step=step, best_step=best_step)
    content = Checkpoint({"weight": torch.zeros(2)}, {}, state, {}, {})
    return checkpoint.write(folder.checkpoints, content, keep=3)


@pytest.fixture
def writer(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process, which has the lock of the run folder `tmp_path`."""
    code = (
        "import sys, time, pathlib; from pipeline.run.folder import RunFolder\n"
        "with RunFolder(pathlib.Path(sys.argv[1])).lock():\n"
        "    print('locked', flush=True); time.sleep(60)"
    )
    process = start([sys.executable, "-c", code, str(tmp_path)])
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    return process


@pytest.mark.distributed
def test_second_writer_is_refused_until_the_first_has_ended(
    writer: subprocess.Popen[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pipeline")
    with (
        pytest.raises(RunError, match=f"process {writer.pid} on "),
        RunFolder(tmp_path).lock(timeout=0.2),
    ):
        pytest.fail("two processes have the lock")
    assert f"has another writer (process {writer.pid} on " in caplog.messages[0]
    writer.kill()
    with RunFolder(tmp_path).lock(timeout=5):
        assert f"process {os.getpid()} on " in (tmp_path / ".writer").read_text()
    writer.communicate()


def test_folder_that_cannot_be_created_is_one_error_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = RunFolder(tmp_path / "file" / "run")
    with pytest.raises(RunError, match=r"file/run: is not writable \(Not a directory\)"):
        folder.lock().__enter__()


def test_best_checkpoint_is_the_newest_until_one_is_evaluated(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    with pytest.raises(RunError, match="has no checkpoint yet"):
        folder.best_checkpoint()
    for step, best_step, expected in ((1, 0, 1), (2, 2, 2), (3, 2, 2)):
        write_checkpoint(folder, step, best_step)
        assert folder.best_checkpoint() == checkpoint.path_of(folder.checkpoints, expected)


@pytest.mark.parametrize("removed", ["nothing", "step-*", "[bl]*"])
def test_best_checkpoint_of_a_copy_is_found(tmp_path: Path, removed: str) -> None:
    original, copy = RunFolder(tmp_path / "a"), RunFolder(tmp_path / "b")
    write_checkpoint(original, 1, best_step=1)
    write_checkpoint(original, 2, best_step=1)
    shutil.copytree(original.path, copy.path)  # links become folders
    for path in copy.checkpoints.glob(removed):
        shutil.rmtree(path)
    path = copy.best_checkpoint()
    assert path.parent == copy.checkpoints
    assert checkpoint.damage(path) == ""
    assert checkpoint.read_state(path, {})[0].step == 1
