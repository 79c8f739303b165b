"""One process at a time has a lock, with or without flock, and nothing waits forever unsaid."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock, SoftFileLock, Timeout

from pipeline.corpus.prepare import prepare
from pipeline.errors import RunError
from pipeline.run.folder import RunFolder
from pipeline.storage import locks
from pipeline.storage.locks import file_lock, release_hint
from tests.helpers.processes import finish, start

WITHOUT_FLOCK = [errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL]
PATCH = (
    "import fcntl\n"
    "def flock(*args): raise OSError(95, 'Operation not supported')\n"
    "fcntl.flock = flock\n"
)
"""Code of a process on a file system without flock."""
HOLDER = (
    f"{PATCH}import sys, time, pathlib; from pipeline.storage.locks import file_lock\n"
    "with file_lock(pathlib.Path(sys.argv[1])):\n"
    "    print('locked', flush=True); time.sleep(60)"
)


@pytest.fixture(params=WITHOUT_FLOCK, ids=lambda number: errno.errorcode[number])
def _no_flock(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, operation: int) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", flock)
    locks._has_flock.cache_clear()


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    """Another process without flock, which has the lock `.lock`."""
    process = start([sys.executable, "-c", HOLDER, str(tmp_path / ".lock")])
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    return process


def test_the_operating_system_s_lock_is_used_if_there_is_one(tmp_path: Path) -> None:
    lock = file_lock(tmp_path / "lock")
    assert isinstance(lock, FileLock)
    assert release_hint(lock) == ""
    with lock, pytest.raises(Timeout):
        file_lock(tmp_path / "lock").acquire(timeout=0)


def test_a_folder_that_is_not_writable_is_reported_by_the_lock(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        file_lock(tmp_path / "file" / "lock").acquire(timeout=0)


@pytest.mark.usefixtures("_no_flock")
def test_a_file_is_the_lock_without_flock(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="pipeline")
    (tmp_path / "lock").write_text("")  # left by a process that had flock
    with file_lock(tmp_path / "lock").acquire(timeout=0):
        other = file_lock(tmp_path / "lock")
        with pytest.raises(Timeout):
            other.acquire(timeout=0)
        assert release_hint(other).endswith(f"delete {tmp_path / 'lock.held'})")
    with other.acquire(timeout=0):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]
    (line,) = caplog.messages
    assert line.startswith(f"{tmp_path}: this file system cannot lock files (")


@pytest.mark.usefixtures("_no_flock")
def test_a_run_folder_and_a_dataset_are_locked_without_flock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        RunFolder(tmp_path / "run").lock(timeout=0),
        pytest.raises(RunError, match=rf"process {os.getpid()} on .*delete .*\.lock\.held\)"),
        RunFolder(tmp_path / "run").lock(timeout=0),
    ):
        pytest.fail("the lock is held twice")
    with prepare._lock(tmp_path / "shards"):
        assert isinstance(file_lock(tmp_path / "shards.lock"), SoftFileLock)
        assert (tmp_path / "shards.lock.held").exists()
    assert not (tmp_path / "shards.lock.held").exists()


@pytest.mark.distributed
def test_the_lock_of_a_killed_process_does_not_count(
    holder: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = SoftFileLock(tmp_path / f".lock{locks.SOFT}")
    with pytest.raises(Timeout):
        lock.acquire(timeout=0.2)
    holder.kill()
    holder.communicate()
    assert Path(lock.lock_file).exists()
    with lock.acquire(timeout=10):
        pass


@pytest.mark.distributed
def test_who_waits_for_a_dataset_learns_which_file_to_delete(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    (tmp_path / f".lock{locks.SOFT}").rename(tmp_path / f"shards.lock{locks.SOFT}")
    code = (
        f"{PATCH}import sys, pathlib; from pipeline.corpus.prepare import prepare\n"
        "from pipeline.runtime.logs import configure_logging\n"
        "configure_logging()\n"
        "with prepare._lock(pathlib.Path(sys.argv[1])): print('locked')"
    )
    waiting = start([sys.executable, "-c", code, str(tmp_path / "shards")])
    assert waiting.stderr
    lines = [waiting.stderr.readline() for _ in range(2)]
    assert "cannot lock files (Operation not supported)" in lines[0]
    held = tmp_path / f"shards.lock{locks.SOFT}"
    assert lines[1] == (
        f"{tmp_path / 'shards'}: another process is preparing it; waiting (if that process has "
        f"ended, delete {held})\n"
    )
    held.unlink()
    assert finish(waiting)[:2] == (0, "locked\n")
    holder.kill()
    holder.communicate()
