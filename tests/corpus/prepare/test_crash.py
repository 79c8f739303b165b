"""What is killed, full or broken never passes for a dataset, and a rerun ends in the same bytes."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.corpus.dataset.manifest import open_dataset
from pipeline.corpus.worker_pool import WorkerPool
from pipeline.errors import DatasetError, InputError
from tests.helpers.files import content, reviews, write

ROOT = Path(__file__).parents[3]
ROWS = reviews(1200)
PREPARE = """
import os, resource, signal, sys
from pathlib import Path
from pipeline.corpus.prepare.prepare import prepare
from tests.helpers.files import FIELDS, settings_in

{before}
if __name__ == "__main__":
    prepare(settings_in(Path(sys.argv[1]), {changes}), FIELDS)
"""
KILL_AT_TENTH = """
landed, replace = 0, Path.replace
def replace_or_die(self, target):
    global landed
    landed += 1
    if landed == 10:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = replace_or_die
"""


def start(folder: Path, before: str = "", changes: str = "") -> "subprocess.Popen[str]":
    """A process that prepares the dataset of `folder`."""
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
def whole(tmp_path_factory) -> dict[str, bytes]:
    """The files of the dataset of ROWS, prepared at one go."""
    from pipeline.corpus.prepare.prepare import prepare
    from tests.helpers.files import FIELDS, settings_in

    folder = tmp_path_factory.mktemp("whole")
    write(folder / "reviews.csv", ROWS)
    return content(prepare(settings_in(folder), FIELDS).path)


def test_killed_again_and_again_it_gets_done(tmp_path: Path, whole):
    write(tmp_path / "reviews.csv", ROWS)
    kills = 0
    while True:
        process = start(tmp_path, KILL_AT_TENTH, "chunk_mb=0.06, shard_mb=0.02")
        output, _ = process.communicate()
        if process.returncode == 0:
            break
        kills += 1
        assert process.returncode == -signal.SIGKILL, output
        with pytest.raises(DatasetError):
            open_dataset(tmp_path / "shards")
    assert kills > 2
    assert content(tmp_path / "shards") == whole
    assert "going on from what is done" in output


@pytest.mark.parametrize(
    "landmark", ["identity.json", "parts/00000002.json", "packed/train-*.json"]
)
def test_killed_with_its_workers_at_work(tmp_path: Path, make, whole, landmark: str):
    write(tmp_path / "reviews.csv", ROWS)
    work = tmp_path / "shards.partial"
    process = start(tmp_path, changes="workers=2, chunk_mb=0.01")
    while not any(work.glob(landmark)) and process.poll() is None:
        time.sleep(0.001)
    os.kill(process.pid, signal.SIGKILL)  # the workers, left alone, must end by themselves
    process.communicate(timeout=10)  # which closes its end of the pipe when the last of them ends
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "shards")
    make(chunk_mb=0.01)
    assert content(tmp_path / "shards") == whole
    assert not work.exists()


HEARS_CTRL_C = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
"""A process that a shell put in the background ignores it, and all that are started by it."""


def test_interrupted_it_ends_at_once_and_quietly(tmp_path: Path):
    write(tmp_path / "reviews.csv", ROWS)
    process = start(tmp_path, HEARS_CTRL_C, "workers=2, chunk_mb=0.005")
    while not any((tmp_path / "shards.partial").glob("parts/*.json")) and process.poll() is None:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=10)
    assert output.count("Traceback") == output.count("KeyboardInterrupt") == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_no_space_left(tmp_path: Path, make, whole, workers: int):
    write(tmp_path / "reviews.csv", ROWS)
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    process = start(tmp_path, limit, f"workers={workers}")
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "DatasetError: " in output
    assert "cannot be written: File too large; nothing half-written will be taken" in output
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "shards")
    make()
    assert content(tmp_path / "shards") == whole


@pytest.mark.parametrize("atomic_file", range(3, 33, 4))
def test_no_space_left_at_any_file(tmp_path: Path, make, whole, monkeypatch, atomic_file: int):
    write(tmp_path / "reviews.csv", ROWS)
    count, fsync = 0, os.fsync

    def full(handle: int) -> None:
        nonlocal count
        count += 1
        if count == atomic_file:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DatasetError, match="cannot be written: No space left on device; nothing"):
        make()
    with pytest.raises(DatasetError):
        open_dataset(tmp_path / "shards")
    make()
    assert content(tmp_path / "shards") == whole


def test_two_processes_at_once_make_it_once(tmp_path: Path, whole):
    write(tmp_path / "reviews.csv", ROWS)
    outputs = [process.communicate()[0] for process in [start(tmp_path), start(tmp_path)]]
    assert sum("ready:" in output for output in outputs) == 1
    assert not any("Traceback" in output for output in outputs)
    assert content(tmp_path / "shards") == whole


def test_input_that_changes_meanwhile_is_noticed(tmp_path: Path, make, monkeypatch):
    path = write(tmp_path / "reviews.csv", ROWS)

    def grow(*args: object, **options: object) -> str:
        path.write_bytes(path.read_bytes() + b"one more,positive,a\n")
        return train(*args, **options)

    from pipeline.corpus.tokenization.tokenizer import train

    monkeypatch.setattr("pipeline.corpus.prepare.build.train", grow)
    with pytest.raises(InputError, match="changed while it was being prepared"):
        make()
    monkeypatch.undo()
    assert make().report["rows"] == len(ROWS) + 1


def test_work_begun_with_other_settings_is_not_used(tmp_path: Path, make, monkeypatch):
    write(tmp_path / "reviews.csv", ROWS)
    monkeypatch.setattr("pipeline.corpus.prepare.build.report.count", None)
    with pytest.raises(TypeError):
        make(max_tokens=30)
    monkeypatch.undo()
    assert make(max_tokens=40).splits["train"].max_length == 40


def _die(unit: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep_or_fail(unit: int) -> None:
    if unit == 0:
        raise InputError("the first unit fails")
    time.sleep(60)


def test_a_dying_worker_is_a_clear_error():
    with (
        pytest.raises(DatasetError, match="encode: a worker process died, killed perhaps for want"),
        WorkerPool(2, print) as crew,
    ):
        crew.run("encode", _die, range(4), 4)


def test_after_an_error_no_worker_goes_on():
    begun = time.monotonic()
    with pytest.raises(InputError, match="the first unit fails"), WorkerPool(2, print) as crew:
        crew.run("encode", _sleep_or_fail, range(8), 8)
    assert time.monotonic() - begun < 10


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path, make):
    write(tmp_path / "reviews.csv", ROWS)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "thesis.txt").write_text("years of work")
    with pytest.raises(DatasetError, match="is there but is no dataset, and nothing of it is over"):
        make()
    assert content(tmp_path / "shards") == {"thesis.txt": b"years of work"}
