"""A run that is killed or stopped, then resumed, ends exactly as an uninterrupted run does.

The tests start real processes and kill them.
"""

import json
import signal
from collections.abc import Callable
from itertools import product
from pathlib import Path

import psutil
import pytest

from tests.helpers.campaign import cases
from tests.helpers.corpora import CASES, small_run_overrides, write_reviews
from tests.helpers.processes import (
    command,
    error_lines,
    finish,
    kill,
    losses,
    metrics,
    reproducible_metrics,
    run,
    start,
    wait_for,
    was_killed,
    weights,
)

pytestmark = [pytest.mark.slow, pytest.mark.distributed]

RUN = [
    "train.epochs=2", "train.log_every=3", "train.checkpoint_every=7", "model.dropout=0.3",
    "model.embedding_dropout=0.1", "stream.accumulation_steps=2", "stream.token_budget=1200",
    "train.ema_decay=0.9",
]  # fmt: skip


@pytest.fixture(scope="module")
def overrides(corpus: Path) -> Callable[[Path], list[str]]:
    """A function that returns the overrides of a run in a given folder."""
    return lambda folder: [*small_run_overrides(corpus), *RUN, f"run.dir={folder}"]


def uninterrupted(overrides: Callable[[Path], list[str]], folder: Path, nproc: int) -> Path:
    """Train a run to its end, and return its folder."""
    status, _, err = run(*overrides(folder), nproc=nproc)
    assert status == 0, err
    return folder


@pytest.fixture(scope="module")
def reference(
    overrides: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of an uninterrupted run of two processes."""
    return uninterrupted(overrides, tmp_path_factory.mktemp("reference"), 2)


@pytest.fixture(scope="module")
def reference_of_one_process(
    overrides: Callable[[Path], list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of an uninterrupted run of one process."""
    return uninterrupted(overrides, tmp_path_factory.mktemp("reference_of_one_process"), 1)


def check_same(folder: Path, reference: Path) -> None:
    """Assert that two runs have the same weights, metrics and checkpoint links, bit for bit."""
    assert weights(folder) == weights(reference)
    assert reproducible_metrics(folder) == reproducible_metrics(reference)
    for name in ("latest", "best"):
        links = [(run / "checkpoints" / name).readlink() for run in (folder, reference)]
        assert links[0] == links[1]


END_OF_EPOCH = 0
"""Represents the step that ends the first epoch, which the reference run shows."""
CRASHES = {
    "before the first checkpoint": [("update", 5)],
    "before a save": [("save", 7), ("save", 14)],
    "in a save": [("rename", 14)],
    "between a save and its links": [("links", END_OF_EPOCH)],
    "before the save of an evaluation": [("save", END_OF_EPOCH)],
    "in an evaluation": [("evaluation", END_OF_EPOCH)],
    "between an evaluation and its save": [("results", END_OF_EPOCH)],
}


@pytest.mark.parametrize(
    "moment",
    cases(
        CRASHES,
        (
            "in a save",
            "between a save and its links",
            "in an evaluation",
            "between an evaluation and its save",
        ),
    ),
)
def test_run_killed_at_any_point_ends_bit_for_bit_the_same(
    moment: str,
    overrides: Callable[[Path], list[str]],
    reference_of_one_process: Path,
    tmp_path: Path,
) -> None:
    logged = metrics(reference_of_one_process)
    end_of_epoch = next(int(line["step"]) for line in logged if "val/accuracy" in line)
    for point, step in CRASHES[moment]:
        crash = (point, end_of_epoch if step == END_OF_EPOCH else step)
        status, _, err = run(*overrides(tmp_path), crash=crash)
        assert was_killed(status, err), err
    saved = sorted(path.name for path in (tmp_path / "checkpoints").glob("step-*"))
    if moment.startswith(("in an evaluation", "between an evaluation")):
        assert saved[-1] == f"step-{end_of_epoch:08d}"
    status, _, err = run(*overrides(tmp_path))
    assert status == 0, err
    check_same(tmp_path, reference_of_one_process)


@pytest.mark.campaign
def test_two_processes_killed_twice_in_an_epoch_end_bit_for_bit_the_same(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    for step in (9, 16):
        status, _, err = run(*overrides(tmp_path), nproc=2, crash=("update", step))
        assert was_killed(status, err), err
    status, _, err = run(*overrides(tmp_path), nproc=2)
    assert status == 0, err
    check_same(tmp_path, reference)


@pytest.mark.parametrize(
    "task, nproc",
    cases(
        product((task for task in CASES if task != "classification"), (1, 2)),
        [("language_modeling", 1), ("translation", 1)],
    ),
)
def test_killed_run_of_any_task_ends_bit_for_bit_the_same(
    task: str, nproc: int, corpora: Callable[[str], Path], tmp_path: Path
) -> None:
    settings = [*small_run_overrides(corpora(task), task), *RUN, *CASES[task].overrides]
    for folder, crashes in (("uninterrupted", [None]), ("killed", [("update", 9), None])):
        for crash in crashes:
            status, _, err = run(
                *settings, f"run.dir={tmp_path}/{folder}", nproc=nproc, crash=crash
            )
            assert was_killed(status, err) if crash else status == 0, err
    check_same(tmp_path / "killed", tmp_path / "uninterrupted")


def test_death_of_one_rank_ends_all_and_torchrun_restarts_them(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    status, _, err = run(*overrides(tmp_path), nproc=2, crash=("one rank", 12), restarts=2)
    assert status == 0, err
    assert "step-00000007" in err
    check_same(tmp_path, reference)


def test_killing_torchrun_ends_its_workers_and_the_run_resumes(
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


def test_stopped_run_saves_its_last_update_and_resumes_after_it(
    overrides: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    """SIGTERM to a single process: the exit status shows it; no update is repeated or lost."""
    uninterrupted, stopped = tmp_path / "uninterrupted", tmp_path / "stopped"
    status, _, err = run(*overrides(uninterrupted), "train.log_every=1")
    assert status == 0, err
    process = start(command(*overrides(stopped), "train.log_every=1"))
    wait_for(lambda: len(losses(stopped)) > 3)
    kill(process, signal.SIGTERM)
    status, _, err = finish(process)
    assert status == 128 + signal.SIGTERM, err
    last_step = max(losses(stopped))
    assert (stopped / "checkpoints" / "latest").readlink().name == f"step-{last_step:08d}"
    status, _, err = run(*overrides(stopped), "train.log_every=1")
    assert status == 0, err
    check_same(stopped, uninterrupted)


@pytest.mark.campaign
@pytest.mark.parametrize("world", [1, 4])
def test_another_number_of_processes_resumes_with_the_same_updates(
    world: int, overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    status, _, err = run(*overrides(tmp_path), "train.max_steps=10", nproc=2)
    assert status == 0, err
    status, _, err = run(*overrides(tmp_path), nproc=world)
    assert status == 0, err
    found, expected = losses(tmp_path), losses(reference)
    assert found.keys() == expected.keys()
    assert all(abs(found[step] - expected[step]) < 1e-5 for step in expected)


@pytest.mark.campaign
def test_run_stopped_by_max_steps_and_extended_has_the_same_weights(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    """The run stops at a step at which no checkpoint is due."""
    run(*overrides(tmp_path), "train.max_steps=10", nproc=2)
    status, _, err = run(*overrides(tmp_path), "train.max_steps=0", nproc=2)
    assert status == 0, err
    assert weights(tmp_path) == weights(reference)


def test_finished_run_prints_its_summary_and_changes_nothing(
    overrides: Callable[[Path], list[str]], reference: Path
) -> None:
    before = weights(reference), metrics(reference)
    status, out, err = run(*overrides(reference))
    assert status == 0, err
    assert "is finished" in err
    assert "validation" in out
    assert "tokens/s" in out
    assert (weights(reference), metrics(reference)) == before


@pytest.mark.parametrize("nproc", cases([1, 2], [1]))
def test_changed_keys_are_each_named_without_a_traceback(
    nproc: int, overrides: Callable[[Path], list[str]], reference: Path
) -> None:
    status, _, err = run(*overrides(reference), "model.hidden=9", "train.lr=1e-9", nproc=nproc)
    assert status == (2 if nproc == 1 else 1)
    lines = error_lines(err)
    assert ["model.hidden=9" in e or "train.lr=1e-09" in e for e in lines] == [True, True]
    assert "[rank" not in err  # no worker's traceback


def test_another_dataset_is_refused_and_the_runs_tokenizer_is_kept(
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


def test_run_branches_off_only_from_a_checkpoint_with_its_settings(
    overrides: Callable[[Path], list[str]], reference: Path, tmp_path: Path
) -> None:
    checkpoint = sorted((reference / "checkpoints").glob("step-*"))[0]
    branch = [*overrides(tmp_path), f"train.resume={checkpoint}"]
    status, _, err = run(*branch, "train.seed=9")
    assert status == 2
    assert "train.seed=9: the run in" in err
    assert not (tmp_path / "config.yaml").exists()
    status, _, err = run(*branch, f"train.max_steps={int(checkpoint.name[-8:])}")
    assert status == 0, err
    assert weights(tmp_path) == (checkpoint / "model.safetensors").read_bytes()  # its own copy
    status, _, err = run(*branch)
    assert status == 2
    assert "set train.resume=auto to resume from it" in err


def test_settings_may_change_before_the_first_checkpoint(
    overrides: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    status, _, err = run(*overrides(tmp_path), "train.precision=fp16")
    assert status == 2
    assert "train.precision=fp16" in err
    status, _, err = run(*overrides(tmp_path), "train.max_steps=1")
    assert status == 0, err


def test_diverging_run_ends_with_one_error_line_and_is_not_restarted(
    overrides: Callable[[Path], list[str]], tmp_path: Path
) -> None:
    high = ["train.lr=1e30", "train.max_grad_norm=0", "train.warmup=0"]
    _, _, err = run(*overrides(tmp_path), *high, restarts=1)
    line, at_restart = error_lines(err)
    assert line.startswith("error: step ")
    assert "so training cannot continue; start a new run in another run.dir" in line
    assert "the attempt before this one is failed, and a restart cannot change that" in at_restart
    content = json.loads((tmp_path / "status.json").read_text())
    assert (content["status"], content["restart"], content["exit_status"]) == ("failed", False, 3)
