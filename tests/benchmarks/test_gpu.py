"""The parts of benchmarks/gpu.py: if a step fails or is killed, the other results are kept."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.gpu_parts import correct, fast, good, report, steps
from benchmarks.gpu_parts.steps import Machine, Result, Step, run_part, run_step
from tests.helpers.processes import REPOSITORY

CPU = torch.device("cpu")


def passes(machine: Machine) -> dict[str, Any]:
    """Passes."""
    return {"speed": 1.0}


def fails(machine: Machine) -> dict[str, Any]:
    """Fails."""
    raise ValueError("wrong | number")


def continues(machine: Machine) -> dict[str, Any]:
    """Trains in two calls."""
    begun = machine.folder / "begun"
    finished = begun.exists()
    begun.touch()
    return {"finished": finished, "tokens/s": 12345.6, "share of padding": 0.25}


STEPS = (
    Step("first", 10, passes),
    Step("second", 10, fails),
    Step("third", 10, continues, table="Models"),
)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the steps that ran, in this process instead of one of their own."""
    started: list[str] = []

    def run_in_process(part: str, name: str, out: Path, limit: float, data: Path | None) -> None:
        started.append(name)
        step = next(step for step in STEPS if step.name == name)
        run_step(step, Machine(CPU, out / part), out / part / f"{name}.json")

    monkeypatch.setattr(steps, "run_in_process", run_in_process)
    return started


def test_a_part_resumes_with_the_steps_that_have_no_result(
    tmp_path: Path, processes: list[str]
) -> None:
    results = run_part("part", STEPS, tmp_path)
    assert processes == ["first", "second", "third"]
    assert [result.passed for result in results] == [True, False, True]
    (tmp_path / "part" / "second.json").unlink()
    run_part("part", STEPS, tmp_path)
    assert processes == ["first", "second", "third", "second", "third"]


def test_a_step_that_is_not_finished_continues_in_each_call(
    tmp_path: Path, processes: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    calls = steps.MAX_ATTEMPTS + 2
    for _ in range(calls):
        *_, third = run_part("part", STEPS, tmp_path)
        if third.finished:
            (tmp_path / "part" / "begun").unlink()
            (tmp_path / "part" / "third.json").unlink()
    assert processes.count("third") == calls, "attempts that end do not count as killed"
    assert "not finished, call the part again to continue" in capsys.readouterr().out


def test_no_step_starts_that_could_exceed_the_parts_time(
    tmp_path: Path, processes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "PART_SECONDS", 5)
    assert run_part("part", STEPS, tmp_path) == []
    assert processes == []


def test_a_step_that_killed_its_part_is_given_up(
    tmp_path: Path, processes: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: Any) -> Result:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(steps, "run_in_process", killed)
        for _ in range(steps.MAX_ATTEMPTS):
            with pytest.raises(KeyboardInterrupt):
                run_part("part", STEPS, tmp_path)
    first, *_ = run_part("part", STEPS, tmp_path)
    assert first.error == f"the part was killed {steps.MAX_ATTEMPTS} times during this step"
    assert processes == ["second", "third"]


def test_report_has_a_line_per_result_and_names_what_is_missing(
    tmp_path: Path, processes: list[str]
) -> None:
    parts = {"part": STEPS}
    assert report.report(tmp_path, parts) == f"{tmp_path}: nothing was measured."
    run_part("part", STEPS[:2], tmp_path)
    text = report.report(tmp_path, parts)
    assert "### Models" not in text
    assert "device CPU (rehearsal); torch " in text
    assert "| first | pass |" in text
    assert "Passes. speed: 1 |" in text
    assert "| second | FAIL |" in text
    assert "wrong / number |" in text
    assert text.endswith("Not run: third.")


def test_report_has_a_table_with_a_column_per_measurement(
    tmp_path: Path, processes: list[str]
) -> None:
    run_part("part", STEPS, tmp_path)
    text = report.report(tmp_path, {"part": STEPS})
    assert "### Models\n\n| model | tokens/s | share of padding |" in text
    assert "| Trains in two calls (not finished) | 12,346 | 25.0% |" in text


@pytest.mark.slow
@pytest.mark.parametrize("limit, error", [(60.0, ""), (0.1, "took longer than 0 s")])
def test_a_step_runs_in_a_process_with_a_time_limit(
    limit: float, error: str, tmp_path: Path
) -> None:
    (tmp_path / "correct").mkdir()
    (tmp_path / "rehearsal").touch()
    failure = steps.run_in_process("correct", "out_of_memory", tmp_path, limit)
    assert (tmp_path / "correct" / "out_of_memory.json").exists() is not bool(error)
    assert (failure.error.splitlines()[-1] if failure else "") == error


def test_without_a_gpu_only_a_rehearsal_runs(tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "benchmarks/gpu.py", "correct", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(
        "no GPU is available; --rehearse runs the steps on the CPU"
    )


def test_every_step_says_what_it_shows_and_fits_its_part() -> None:
    for part in (correct.STEPS, fast.STEPS, good.STEPS):
        assert len({step.name for step in part}) == len(part)
        assert all(step.help and step.seconds < steps.PART_SECONDS for step in part)
