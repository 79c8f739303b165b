"""Stop signals: in every phase, repeated, to one process or to all.

The tests start real processes and signal them.
"""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from pipeline.runtime.stop_signal import SIGNALS
from tests.helpers.campaign import cases
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import CRASH, command, finish, losses, run, start, torchrun, wait_for
from tests.training.test_resume import RUN, check_same, uninterrupted

pytestmark = [pytest.mark.slow, pytest.mark.distributed]


@pytest.fixture(scope="module")
def overrides(corpus: Path) -> Callable[[Path], list[str]]:
    """A function that returns the overrides of a run in a given folder."""
    settings = [*small_run_overrides(corpus), *RUN, "train.log_every=1"]
    return lambda folder: [*settings, f"run.dir={folder}"]


@pytest.fixture(scope="module")
def reference(
    overrides: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of an uninterrupted run of two processes."""
    return uninterrupted(overrides, tmp_path_factory.mktemp("reference"), 2)


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def latest(folder: Path) -> str:
    return (folder / "checkpoints" / "latest").readlink().name


@pytest.mark.parametrize(
    "receiver",
    cases(
        ["all", "all, repeatedly", "rank 0", "rank 1", "torchrun"], ["all, repeatedly", "rank 1"]
    ),
)
def test_a_signal_to_any_process_saves_the_last_update(
    receiver: str,
    overrides: Callable[[Path], list[str]],
    reference: Path,
    tmp_path: Path,
) -> None:
    process = start(command(*overrides(tmp_path), nproc=2))
    wait_for(lambda: len(losses(tmp_path)) > 3)
    ranks = sorted(workers_of(process), key=lambda worker: worker.environ()["RANK"])
    assert len(ranks) == 2
    receivers = {"rank 0": ranks[:1], "rank 1": ranks[1:], "torchrun": []}.get(receiver, ranks)
    for _ in range(3 if "repeatedly" in receiver else 1):
        for worker in receivers:
            if worker.is_running():
                worker.send_signal(signal.SIGTERM)
        if receiver == "torchrun" or "all" in receiver:
            process.send_signal(signal.SIGTERM)
        time.sleep(0.05)
    status, _, err = finish(process, 40)
    assert status != 0
    last = max(losses(tmp_path))
    assert latest(tmp_path) == f"step-{last:08d}", err
    assert f"step {last} is saved, the same command resumes" in err
    status, _, err = run(*overrides(tmp_path), nproc=2)
    assert status == 0, err
    check_same(tmp_path, reference)


@pytest.mark.parametrize("nproc", cases([1, 2], [2]))
def test_a_signal_ends_an_evaluation_that_the_resumed_run_repeats(
    nproc: int, overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    script = [str(CRASH), "slow evaluation", "0", *overrides(tmp_path)]
    process = start(torchrun(*script, nproc=nproc) if nproc > 1 else [sys.executable, *script])
    saved = tmp_path / "checkpoints"

    def evaluates() -> bool:
        states = [path.read_text() for path in saved.glob("*/state.json")]
        return any('"evaluation_due": true' in state for state in states)

    wait_for(evaluates)
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    status, _, err = finish(process, 40)
    assert time.monotonic() - begin < 20
    assert status != 0
    assert f"step {int(latest(tmp_path)[5:])} is saved, the same command resumes" in err
    assert not list(saved.glob("*/evaluated.json"))
    status, _, err = run(*overrides(tmp_path), nproc=2)
    assert status == 0, err
    if nproc == 2:
        check_same(tmp_path, reference)


@pytest.mark.parametrize("number", cases(SIGNALS, [signal.SIGHUP]))
def test_a_signal_before_training_ends_the_process_at_once(
    number: int, overrides: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("this process was started with the signal ignored, as by nohup or `&`")
    process = start(command(*overrides(tmp_path)))
    wait_for(lambda: signal_is_handled(process.pid, number))
    process.send_signal(number)
    begin = time.monotonic()
    status, _, err = finish(process, 30)
    assert status == 128 + number, err
    assert time.monotonic() - begin < 10
    assert "Traceback" not in err
    assert not list(tmp_path.glob("checkpoints/step-*"))


def signal_is_handled(process: int, number: int) -> bool:
    """Return whether a process has a handler for a signal."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    caught = next(line.split()[1] for line in lines if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (number - 1) & 1) and len(psutil.Process(process).threads()) > 1
