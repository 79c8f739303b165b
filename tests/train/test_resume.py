"""Killed and started again, a run ends as if nothing had happened. Real processes, real kills."""

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.conftest import small
from tests.train.processes import (
    command,
    figures,
    finish,
    kill,
    losses,
    metrics,
    run,
    start,
    wait_for,
    weights,
)

RUN = [
    "train.epochs=2", "train.log_every=3", "train.checkpoint_every=7", "model.dropout=0.3",
    "model.embedding_dropout=0.1", "stream.micro_batches=2", "stream.token_budget=1200",
]  # fmt: skip


@pytest.fixture(scope="module")
def overrides(corpus: Path) -> Callable[[Path], list[str]]:
    return lambda folder: [*small(corpus), *RUN, f"run.dir={folder}"]


@pytest.fixture(scope="module")
def reference(
    overrides: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A run of two processes that nobody disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    status, _, err = run(*overrides(folder), nproc=2)
    assert status == 0, err
    return folder


def steps(reference: Path) -> int:
    return int(metrics(reference)[-1]["step"])


def check_same(folder: Path, reference: Path) -> None:
    assert weights(folder) == weights(reference)
    assert figures(folder) == figures(reference)


@pytest.mark.parametrize(
    "crashes",
    [
        [("update", 5)],
        [("update", 9), ("update", 16)],
        [("save", 7), ("save", 14)],
        [("rename", 14)],
        [("save", 0)],
    ],
    ids=["before the first checkpoint", "twice in an epoch", "before a save", "in a save", "epoch"],
)
def test_killed_at_any_point_it_ends_bit_for_bit_the_same(
    crashes: list[tuple[str, int]],
    overrides: Callable[[Path], list[str]],
    reference: Path,
    tmp_path: Path,
) -> None:
    epoch = steps(reference) // 2
    assert steps(reference) == 2 * epoch
    for point, step in crashes:
        at = step or epoch  # the save after the evaluation that ends the first epoch
        status, _, _ = run(*overrides(tmp_path), nproc=2, crash=(point, at))
        assert status != 0
    status, _, err = run(*overrides(tmp_path), nproc=2)
    assert status == 0, err
    check_same(tmp_path, reference)


def test_one_dead_rank_takes_the_others_along_and_torchrun_restarts_them(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    status, _, err = run(*overrides(tmp_path), nproc=2, crash=("one rank", 12), restarts=2)
    assert status == 0, err
    assert "step-00000007" in err
    check_same(tmp_path, reference)


def test_kill_9_of_torchrun_leaves_no_worker_and_the_run_goes_on(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    process = start(command(*overrides(tmp_path), nproc=2))
    wait_for(lambda: len(losses(tmp_path)) > 3)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) == 2
    kill(process)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive
    process.communicate()
    status, _, err = run(*overrides(tmp_path), nproc=2)
    assert status == 0, err
    check_same(tmp_path, reference)


def test_a_stopped_run_saves_and_goes_on_with_the_update_it_stopped_at(
    overrides: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    """SIGTERM to a lone process: the status says so, and no update is done twice or left out."""
    alone, stopped = tmp_path / "alone", tmp_path / "stopped"
    status, _, err = run(*overrides(alone), "train.log_every=1")
    assert status == 0, err
    process = start(command(*overrides(stopped), "train.log_every=1"))
    wait_for(lambda: len(losses(stopped)) > 3)
    kill(process, signal.SIGTERM)
    status, _, err = finish(process)
    assert status == 128 + signal.SIGTERM, err
    done = max(losses(stopped))
    assert (stopped / "checkpoints" / "latest").readlink().name == f"step-{done:08d}"
    status, _, err = run(*overrides(stopped), "train.log_every=1")
    assert status == 0, err
    check_same(stopped, alone)


@pytest.mark.parametrize("world", [1, 4])
def test_another_number_of_processes_goes_on_with_the_same_updates(
    world: int, overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    status, _, err = run(*overrides(tmp_path), "train.max_steps=10", nproc=2)
    assert status == 0, err
    status, _, err = run(*overrides(tmp_path), nproc=world)
    assert status == 0, err
    found, expected = losses(tmp_path), losses(reference)
    assert found.keys() == expected.keys()
    assert all(abs(found[step] - expected[step]) < 1e-5 for step in expected)


def test_max_steps_only_stops_a_run(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    """Stopped at a step that is no checkpoint's, then prolonged: weights as if never stopped."""
    run(*overrides(tmp_path), "train.max_steps=10", nproc=2)
    status, _, err = run(*overrides(tmp_path), "train.max_steps=0", nproc=2)
    assert status == 0, err
    assert weights(tmp_path) == weights(reference)


def test_a_finished_run_says_so_and_shows_its_summary(
    overrides: Callable[[Path], list[str]], reference: Path
) -> None:
    before = weights(reference), metrics(reference)
    status, out, err = run(*overrides(reference), nproc=1)
    assert status == 0, err
    assert "is finished" in err
    assert "validation" in out
    assert "tokens/s" in out
    assert (weights(reference), metrics(reference)) == before


def test_a_changed_key_is_refused_by_name_without_a_traceback(
    overrides: Callable[[Path], list[str]], reference: Path
) -> None:
    status, _, err = run(*overrides(reference), "model.hidden=9", "train.lr=1e-9")
    assert status == 2
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert ["model.hidden=9" in e or "train.lr=1e-09" in e for e in errors] == [True, True]
    assert "Traceback" not in err
