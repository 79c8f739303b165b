"""Work items run in worker processes, or in this process if those cannot share memory."""

import errno
import multiprocessing.synchronize
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.corpus.worker_pool import WorkerPool
from tests.helpers.campaign import cases
from tests.helpers.processes import finish, start


def process_of(item: int) -> tuple[int, int]:
    return item, os.getpid()


@pytest.mark.distributed
def test_items_run_in_other_processes_in_order() -> None:
    with WorkerPool(2) as pool:
        results = pool.run("work", process_of, [1, 2, 3], 3)
    assert [item for item, _ in results] == [1, 2, 3]
    assert os.getpid() not in {process for _, process in results}


@pytest.mark.parametrize(
    "error",
    [OSError(number, os.strerror(number)) for number in (errno.ENOSPC, errno.ENOSYS, errno.EACCES)]
    + [ImportError("This platform lacks a functioning sem_open implementation")],
    ids=["small", "none", "not writable", "no semaphores"],
)
def test_without_shared_memory_the_items_run_in_this_process(
    error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", fail)
    with WorkerPool(2) as pool:
        for _ in range(2):
            results = pool.run("work", process_of, [1, 2, 3], 3)
            assert results == [(item, os.getpid()) for item in (1, 2, 3)]
    (line,) = caplog.messages
    assert line.startswith("/dev/shm: cannot be used by worker processes (")
    assert "preparing in one process" in line
    assert "--shm-size=1g" in line


@pytest.mark.distributed
@pytest.mark.parametrize(
    "options", cases(["size=4k", "ro,size=64k", "size=64M"], ["size=4k", "size=64M"])
)
def test_a_dataset_is_prepared_with_any_shared_memory(options: str, tmp_path: Path) -> None:
    """In a mount namespace of its own, where that is permitted."""
    mount = f'mount -t tmpfs -o {options} tmpfs /dev/shm && exec "$@"'
    prefix = ["unshare", "--mount", "sh", "-c", mount, "sh"]
    if not shutil.which("unshare") or subprocess.run([*prefix, "true"], check=False).returncode:
        pytest.skip("unshare --mount is not permitted here")
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("text,label\n" + "one,x\ntwo,y\nthree,x\nfour,y\n" * 5)
    arguments = [
        *("prepare", f"corpus.input=[{tmp_path}/a.csv, {tmp_path}/b.csv]", "corpus.filters={}"),
        *("corpus.label_names=[]", "corpus.vocab_size=300", "corpus.validation=0.25"),
        *("corpus.workers=2", "corpus.chunk_mb=0.0001", f"corpus.shards={tmp_path}/shards"),
    ]
    status, _, err = finish(start([*prefix, sys.executable, "-m", "pipeline.cli", *arguments]))
    assert status == 0, err
    assert ("/dev/shm: cannot be used" in err) == (options != "size=64M")
    assert (tmp_path / "shards" / "dataset.json").exists()
