"""Messages name commands as the user types them; workers exit when their torchrun is
killed."""

import sys

import psutil
import pytest

from pipeline.runtime.launcher import command
from tests.helpers.processes import finish, start, wait_for


@pytest.mark.parametrize(
    "program, expected",
    [
        ("launch/train.py", "python launch/predict.py"),
        ("/clone/launch/train.py", "python /clone/launch/predict.py"),
        ("/venv/bin/headrace", "headrace predict"),  # the installed console script
        ("/venv/lib/pipeline/cli/__main__.py", "headrace predict"),
    ],
)
def test_command_has_the_form_in_which_the_program_was_started(
    program: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "run.name=x"])
    assert command("predict") == expected


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
