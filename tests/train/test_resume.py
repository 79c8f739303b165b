"""Killed and started again, a run ends as if nothing had happened. Real processes, real kills."""

import signal
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from tests.helpers.corpora import CASES, small, write_reviews
from tests.helpers.processes import (
    command,
    finish,
    kill,
    losses,
    metrics,
    reproducible_metrics,
    run,
    start,
    wait_for,
    weights,
)

RUN = [
    "train.epochs=2", "train.log_every=3", "train.checkpoint_every=7", "model.dropout=0.3",
    "model.embedding_dropout=0.1", "stream.accumulation_steps=2", "stream.token_budget=1200",
    "train.ema_decay=0.9",
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


def check_same(folder: Path, reference: Path) -> None:
    assert weights(folder) == weights(reference)
    assert reproducible_metrics(folder) == reproducible_metrics(reference)
    for name in ("latest", "best"):
        links = [(run / "checkpoints" / name).readlink() for run in (folder, reference)]
        assert links[0] == links[1]


@pytest.mark.parametrize(
    "crashes",
    [
        [("update", 5)],
        [("update", 9), ("update", 16)],
        [("save", 7), ("save", 14)],
        [("rename", 14)],
        [("point", 0)],
        [("save", 0)],
    ],
    ids=[
        "before the first checkpoint",
        "twice in an epoch",
        "before a save",
        "in a save",
        "after it",
        "epoch",
    ],
)
def test_killed_at_any_point_it_ends_bit_for_bit_the_same(
    crashes: list[tuple[str, int]],
    overrides: Callable[[Path], list[str]],
    reference: Path,
    tmp_path: Path,
) -> None:
    epoch = next(int(line["step"]) for line in metrics(reference) if "val/accuracy" in line)
    for point, step in crashes:
        at = step or epoch  # the save after the evaluation that ends the first epoch
        status, _, _ = run(*overrides(tmp_path), nproc=2, crash=(point, at))
        assert status != 0
    status, _, err = run(*overrides(tmp_path), nproc=2)
    assert status == 0, err
    check_same(tmp_path, reference)


@pytest.mark.parametrize("task", [task for task in CASES if task != "classification"])
def test_so_does_a_run_of_any_task(
    task: str, corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = [*small(corpora(task), task), *RUN, *CASES[task].overrides]
    for folder, crashes in (("whole", []), ("killed", [("update", 9)])):
        for crash in [*crashes, None]:
            status, _, err = run(*settings, f"run.dir={tmp_path}/{folder}", nproc=2, crash=crash)
            assert (status == 0) == (crash is None), err
    check_same(tmp_path / "killed", tmp_path / "whole")


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


@pytest.mark.parametrize("nproc", [1, 2])
def test_a_changed_key_is_refused_by_name_without_a_traceback(
    nproc: int, overrides: Callable[[Path], list[str]], reference: Path
) -> None:
    status, _, err = run(*overrides(reference), "model.hidden=9", "train.lr=1e-9", nproc=nproc)
    assert status == (2 if nproc == 1 else 1)
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert ["model.hidden=9" in e or "train.lr=1e-09" in e for e in errors] == [True, True]
    assert "[rank" not in err  # no worker's traceback


def test_another_dataset_is_refused_and_the_runs_tokenizer_stays(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    write_reviews(tmp_path / "reviews.csv", 300, seed=9)
    before = (reference / "dataset" / "tokenizer.json").read_bytes()
    status, _, err = run(
        *overrides(reference), f"corpus.shards={tmp_path}/s", f"corpus.input={tmp_path}/reviews.csv"
    )
    assert status == 2
    assert "not the dataset that the run in" in err
    assert (reference / "dataset" / "tokenizer.json").read_bytes() == before


def test_a_run_branches_off_from_a_checkpoint_of_its_own_settings_only(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    start = sorted((reference / "checkpoints").glob("step-*"))[0]
    branch = [*overrides(tmp_path), f"train.resume={start}"]
    status, _, err = run(*branch, "train.seed=9")
    assert status == 2
    assert "train.seed=9: the run in" in err
    assert not (tmp_path / "config.yaml").exists()
    status, _, err = run(*branch, f"train.max_steps={int(start.name[-8:])}")
    assert status == 0, err
    assert weights(tmp_path) == (start / "model.safetensors").read_bytes()  # its own copy
    status, _, err = run(*branch)
    assert status == 2
    assert "set train.resume=auto to go on from it" in err


def test_what_failed_before_its_first_checkpoint_may_be_changed(
    overrides: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    status, _, err = run(*overrides(tmp_path), "train.precision=fp16")
    assert status == 2
    assert "train.precision=fp16" in err
    status, _, err = run(*overrides(tmp_path), "train.max_steps=1")
    assert status == 0, err


def test_a_diverging_run_says_at_which_step(
    overrides: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    status, _, err = run(
        *overrides(tmp_path), "train.lr=1e30", "train.max_grad_norm=0", "train.warmup=0"
    )
    assert status == 2
    errors = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "training cannot go on; start anew in another run.dir" in errors[0]
