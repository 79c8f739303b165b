"""Messages name commands as the user types them; workers exit when their torchrun is
killed."""

import sys

import psutil
import pytest

from pipeline.runtime.launcher import RankInfo, command
from tests.helpers.processes import REPOSITORY, finish, start, wait_for


@pytest.mark.parametrize(
    "program, expected",
    [
        ("launch/train.py", "python launch/predict.py"),
        ("/clone/launch/train.py", "python /clone/launch/predict.py"),
        ("/venv/bin/headrace", "headrace predict"),  # the installed console script
        ("/venv/lib/pipeline/cli/__main__.py", "python -m pipeline.cli predict"),
        ("", "headrace predict"),  # an interactive interpreter
    ],
)
def test_command_has_the_form_in_which_the_program_was_started(
    program: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "run.name=x"])
    assert command("predict") == expected


def test_command_of_a_script_that_was_started_in_its_own_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY / "launch")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert command("predict") == "python predict.py"


@pytest.mark.parametrize(
    "variables, expected",
    [
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4"}, RankInfo(3, 1, 4)),
        ({"RANK": "", "LOCAL_RANK": "", "WORLD_SIZE": ""}, RankInfo(0, 0, 1)),
        ({}, RankInfo(0, 0, 1)),
    ],
    ids=["torchrun", "empty", "single process"],
)
def test_rank_of_the_environment(
    variables: dict[str, str], expected: RankInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert RankInfo.from_environment() == expected


@pytest.mark.distributed
def test_worker_exits_when_its_launcher_is_killed() -> None:
    worker_code = (
        "from pipeline.runtime.launcher import exit_with_launcher\n"
        "import time; exit_with_launcher(poll_seconds=0.1); print('up', flush=True); time.sleep(60)"
    )
    launcher_code = (
        "import os, subprocess, sys, time; os.environ['TORCHELASTIC_RUN_ID'] = 'x'\n"
        f"print(subprocess.Popen([sys.executable, '-c', {worker_code!r}], start_new_session=True)"
        ".pid, flush=True); time.sleep(60)"
    )
    launcher = start([sys.executable, "-c", launcher_code])
    assert launcher.stdout
    worker = int(launcher.stdout.readline())
    assert launcher.stdout.readline() == "up\n"
    launcher.kill()
    wait_for(lambda: not psutil.pid_exists(worker), 10)
    finish(launcher)
