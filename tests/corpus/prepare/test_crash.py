"""Kills, full disks and errors never leave a dataset, and a rerun prepares the same bytes."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.corpus.worker_pool import WorkerPool
from pipeline.errors import DatasetError, InputError
from tests.helpers.files import content, reviews, write

pytestmark = pytest.mark.distributed

ROOT = Path(__file__).parents[3]
ROWS = reviews(1200)
PREPARE = """
import logging, os, resource, signal, sys
from pathlib import Path
from pipeline.corpus.prepare.prepare import prepare
from tests.helpers.files import FIELDS, settings_in

{before}
if __name__ == "__main__":
    logging.basicConfig(level="INFO")
    prepare(settings_in(Path(sys.argv[1]), {changes}), FIELDS)
"""
KILL_AT_TENTH_FILE = """
count, replace = 0, Path.replace
def replace_or_die(self, target):
    global count
    count += 1
    if count == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = replace_or_die
"""


def start(folder: Path, before: str = "", changes: str = "") -> "subprocess.Popen[str]":
    """Start a process that prepares the dataset of `folder`.

    `before` is code that it runs first; `changes` are keyword arguments of `settings_in`.
    """
    script = folder / "script.py"
    script.write_text(PREPARE.format(before=before, changes=changes))
    return subprocess.Popen(
        [sys.executable, str(script), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@pytest.fixture(scope="module")
def expected(tmp_path_factory) -> dict[str, bytes]:
    """Return the files of the dataset of ROWS, prepared without an interruption."""
    from pipeline.corpus.prepare.prepare import prepare
    from tests.helpers.files import FIELDS, settings_in

    folder = tmp_path_factory.mktemp("expected")
    write(folder / "reviews.csv", ROWS)
    return content(prepare(settings_in(folder), FIELDS).path)


def test_a_preparation_that_is_killed_repeatedly_gets_done(tmp_path: Path, expected):
    write(tmp_path / "reviews.csv", ROWS)
    kills = 0
    while True:
        process = start(tmp_path, KILL_AT_TENTH_FILE, "chunk_mb=0.06, shard_mb=0.02")
        output, _ = process.communicate()
        if process.returncode == 0:
            break
        kills += 1
        assert process.returncode == -signal.SIGKILL, output
        with pytest.raises(DatasetError):
            open_dataset(tmp_path / "shards")
    assert kills > 2
    assert content(tmp_path / "shards") == expected
    assert "resuming the earlier preparation" in output


@pytest.mark.parametrize(
    "landmark", ["identity.json", "*/parts/00000002.json", "*/packed/train-*.json"]
)
def test_a_preparation_is_killed_while_its_workers_run(
    tmp_path: Path, prepare_dataset, expected, landmark: str
):
    write(tmp_path / "reviews.csv", ROWS)
    work = tmp_path / "shards.partial"
    process = start(tmp_path, changes="workers=2, chunk_mb=0.01")
    while not any(work.glob(landmark)) and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)  # its workers must exit by themselves
    process.communicate(timeout=10)  # returns when the last of them has closed the pipe
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "shards")
    prepare_dataset(chunk_mb=0.01)
    assert content(tmp_path / "shards") == expected
    assert not work.exists()


HANDLE_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""If a shell runs the tests in the background, they and their child processes ignore Ctrl-C."""


def test_ctrl_c_ends_all_processes_at_once_with_one_traceback(tmp_path: Path):
    write(tmp_path / "reviews.csv", ROWS)
    process = start(tmp_path, HANDLE_CTRL_C, "workers=2, chunk_mb=0.005")
    while not any((tmp_path / "shards.partial").glob("*/parts/*.json")) and process.poll() is None:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert output.count("Traceback") == output.count("KeyboardInterrupt") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_exceeds_the_size_limit(tmp_path: Path, prepare_dataset, expected, workers: int):
    write(tmp_path / "reviews.csv", ROWS)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    process = start(tmp_path, limit, f"workers={workers}")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "DatasetError: " in output
    assert "cannot be written: File too large; nothing incomplete is kept" in output
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "shards")
    prepare_dataset()
    assert content(tmp_path / "shards") == expected


@pytest.mark.parametrize("failing_call", range(3, 33, 4))
def test_the_disk_is_full_at_any_file(
    tmp_path: Path, prepare_dataset, expected, monkeypatch, failing_call: int
):
    write(tmp_path / "reviews.csv", ROWS)
    count, fsync = 0, os.fsync

    def fail_once(handle: int) -> None:
        nonlocal count
        count += 1
        if count == failing_call:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", fail_once)
    with pytest.raises(DatasetError, match="cannot be written: No space left on device; nothing"):
        prepare_dataset()
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "shards")
    prepare_dataset()
    assert content(tmp_path / "shards") == expected


def test_temporary_files_of_killed_processes_are_not_published(
    tmp_path: Path, prepare_dataset, expected, monkeypatch
):
    write(tmp_path / "reviews.csv", ROWS)
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.corpus.prepare.build.report.summary", None)
        with pytest.raises(TypeError):
            prepare_dataset()
    (out,) = (tmp_path / "shards.partial").glob("*/out")
    for name in (".tokenizer.json.tmp", "train/.00099.tar.tmp", "validation/.index.npy.tmp"):
        (out / name).write_bytes(b"incomplete")
    prepare_dataset()
    assert content(tmp_path / "shards") == expected


def test_two_processes_prepare_a_dataset_once(tmp_path: Path, expected):
    write(tmp_path / "reviews.csv", ROWS)
    outputs = [process.communicate()[0] for process in [start(tmp_path), start(tmp_path)]]
    assert sum("ready:" in output for output in outputs) == 1
    assert not any("Traceback" in output for output in outputs)
    assert content(tmp_path / "shards") == expected


def test_error_if_the_input_changes_during_preparation(
    tmp_path: Path, prepare_dataset, monkeypatch
):
    path = write(tmp_path / "reviews.csv", ROWS)

    def grow(*args: Any, **options: Any) -> str:
        path.write_bytes(path.read_bytes() + b"one more,positive,a\n")
        return train(*args, **options)

    from pipeline.corpus.tokenization.tokenizer import train

    monkeypatch.setattr("pipeline.corpus.prepare.build.train", grow)
    with pytest.raises(InputError, match="changed while it was being prepared"):
        prepare_dataset()
    monkeypatch.undo()
    assert prepare_dataset().report["rows"] == len(ROWS) + 1


def test_work_with_other_settings_is_not_used(tmp_path: Path, prepare_dataset, monkeypatch):
    write(tmp_path / "reviews.csv", ROWS)
    monkeypatch.setattr("pipeline.corpus.prepare.build.report.count", None)
    with pytest.raises(TypeError):
        prepare_dataset(max_tokens=30)
    monkeypatch.undo()
    assert prepare_dataset(max_tokens=40).splits["train"].max_length == 40


def _die(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep_or_fail(item: int) -> None:
    if item == 0:
        raise InputError("the first item fails")
    time.sleep(60)


def test_error_if_a_worker_dies():
    with (
        pytest.raises(DatasetError, match="encode: a worker process died, possibly for lack"),
        WorkerPool(2) as pool,
    ):
        pool.run("encode", _die, range(4), 4)


def test_no_worker_keeps_running_after_an_error():
    start = time.monotonic()
    with pytest.raises(InputError, match="the first item fails"), WorkerPool(2) as pool:
        pool.run("encode", _sleep_or_fail, range(8), 8)
    assert time.monotonic() - start < 10


def test_a_folder_with_other_content_is_not_overwritten(tmp_path: Path, prepare_dataset):
    write(tmp_path / "reviews.csv", ROWS)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match="exists but is not a dataset, so it is not overwritten"):
        prepare_dataset()
    assert content(tmp_path / "shards") == {"thesis.txt": b"years of work"}
