"""Messages name commands as the user types them; workers end with their torchrun."""

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
        ("/venv/bin/headrace", "headrace predict"),
        ("/venv/lib/pipeline/cli/__main__.py", "headrace predict"),
    ],
)
def test_command_is_a_script_if_a_script_was_started(
    program: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [program, "run.name=x"])
    assert command("predict") == expected


@pytest.mark.distributed
def test_worker_ends_when_its_launcher_is_killed() -> None:
    code = (
        "from pipeline.runtime.launcher import end_with_launcher\n"
        "import time; end_with_launcher(0.1); print('up', flush=True); time.sleep(60)"
    )
    launcher = (
        "import os, subprocess, sys, time; os.environ['TORCHELASTIC_RUN_ID'] = 'x'\n"
        f"print(subprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True).pid,"
        " flush=True); time.sleep(60)"
    )
    process = start([sys.executable, "-c", launcher])
    assert process.stdout
    worker = int(process.stdout.readline())
    assert process.stdout.readline() == "up\n"
    process.kill()
    wait_for(lambda: not psutil.pid_exists(worker), 10)
    finish(process)
