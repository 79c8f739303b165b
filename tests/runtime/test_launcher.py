"""Messages name commands as the user types them; workers exit when their torchrun is
killed."""

import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from pipeline.cli import common, train
from pipeline.errors import ConfigError
from pipeline.runtime import launcher
from pipeline.runtime.launcher import RankInfo, check_environment, command
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


@pytest.mark.parametrize(
    "argv, environment, line, program",
    [
        (
            ["/clone/launch/train.py", "run.name=a b"], {},
            "python launch/train.py 'run.name=a b'", "launch/train.py",
        ),
        (["/venv/bin/headrace", "train", "a=1"], {}, "headrace train a=1", "headrace train"),
        (
            ["/venv/lib/pipeline/cli/__main__.py", "train", "a=1"], {},
            "python -m pipeline.cli train a=1", "headrace train",
        ),
        (
            ["launch/train.py", "a=1"], {"TORCHELASTIC_RUN_ID": "none", "LOCAL_WORLD_SIZE": "4"},
            "torchrun --nproc_per_node=4 launch/train.py a=1", "launch/train.py",
        ),
        (
            ["/venv/lib/pipeline/cli/__main__.py", "train"],
            {"TORCHELASTIC_RUN_ID": "7", "LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "3"},
            "torchrun --nnodes=3 --nproc_per_node=2 -m pipeline.cli train", "headrace train",
        ),
    ],
)  # fmt: skip
def test_command_line_is_the_one_that_started_the_run(
    argv: list[str],
    environment: dict[str, str],
    line: str,
    program: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", argv)
    assert (launcher.command_line(), launcher.program_name()) == (line, program)


def test_command_of_a_script_that_was_started_in_its_own_folder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY / "launch")
    monkeypatch.setattr(sys, "argv", ["train.py"])
    assert command("predict") == "python predict.py"


ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    *ADDRESS,
    "TORCHELASTIC_RUN_ID",
)


@pytest.fixture
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables of a launcher that the test's parameter gives, and no others."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({"RANK": "3", "LOCAL_RANK": "1", "WORLD_SIZE": "4", **ADDRESS}, RankInfo(3, 1, 4)),
        ({"RANK": "3", "WORLD_SIZE": "4", **ADDRESS}, RankInfo(3, 0, 4)),
        ({"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", **ADDRESS}, RankInfo(0, 0, 1)),
        ({"RANK": "", "LOCAL_RANK": "", "WORLD_SIZE": ""}, RankInfo(0, 0, 1)),
        ({}, RankInfo(0, 0, 1)),
    ],
    ids=["torchrun", "one process per machine", "one process", "empty", "no launcher"],
    indirect=["environment"],
)
@pytest.mark.usefixtures("environment")
def test_rank_of_the_environment(expected: RankInfo) -> None:
    assert RankInfo.from_environment() == expected
    check_environment()


@pytest.mark.parametrize(
    "environment, lines",
    [
        ({"RANK": "3"}, ["RANK=3: WORLD_SIZE is not set, so there is only rank 0; unset RANK, or"]),
        (
            {"RANK": "3", "WORLD_SIZE": "1", **ADDRESS},
            ["RANK=3: WORLD_SIZE is 1, so there is only"],
        ),
        ({"LOCAL_RANK": "1"}, ["LOCAL_RANK=1: WORLD_SIZE is not set"]),
        (
            {"RANK": "3", "LOCAL_RANK": "1", **ADDRESS},
            ["RANK=3: WORLD_SIZE", "LOCAL_RANK=1: WORLD"],
        ),
        ({"WORLD_SIZE": "4"}, ["WORLD_SIZE=4: there is no RANK and no MASTER_ADDR and no MASTER_"]),
        ({"WORLD_SIZE": "4", "RANK": "0"}, ["WORLD_SIZE=4: there is no MASTER_ADDR and no"]),
        (
            {"WORLD_SIZE": "4", **ADDRESS},
            ["WORLD_SIZE=4: there is no RANK; unset it to train in one"],
        ),
        ({"WORLD_SIZE": "4", "RANK": "4", **ADDRESS}, ["RANK=4: is not below WORLD_SIZE=4; unset"]),
        (
            {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "2", "LOCAL_WORLD_SIZE": "2", **ADDRESS},
            ["LOCAL_RANK=2: is not below LOCAL_WORLD_SIZE=2; unset both"],
        ),
        ({"WORLD_SIZE": "four"}, ["WORLD_SIZE=four: is not a whole number of 0 or more; unset it"]),
        ({"RANK": "-1"}, ["RANK=-1: is not a whole number of 0 or more"]),
        ({"WORLD_SIZE": "0"}, ["WORLD_SIZE=0: is not a number of processes"]),
        (
            {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "x"},
            ["MASTER_PORT=x: is not a whole number"],
        ),
    ],
    indirect=["environment"],
)
@pytest.mark.usefixtures("environment")
def test_a_part_of_a_launcher_s_variables_is_an_error(lines: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_environment()
    assert len(caught.value.lines) == len(lines)
    assert all(map(str.startswith, caught.value.lines, lines)), caught.value.lines
    assert RankInfo.from_environment() == RankInfo(), "errors are printed at once"


@pytest.mark.parametrize(
    "environment, names",
    [
        ({"RANK": "0"}, "RANK"),
        ({"MASTER_ADDR": "node7", "LOCAL_RANK": "0"}, "LOCAL_RANK, MASTER_ADDR"),
    ],
    indirect=["environment"],
)
@pytest.mark.usefixtures("environment")
def test_variables_of_the_first_rank_alone_are_ignored_in_one_line(
    names: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="pipeline")
    check_environment()
    expected = f"{names}: ignored, because WORLD_SIZE is not set; training in one process"
    assert caplog.messages == [expected]


@pytest.mark.parametrize(
    "environment, delays",
    [
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4"}, False),
        ({"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4", **ADDRESS}, False),
        (
            {"RANK": "3", "LOCAL_RANK": "3", "WORLD_SIZE": "4", **ADDRESS}
            | {"TORCHELASTIC_RUN_ID": "x"},
            True,
        ),
    ],
    ids=["local rank", "no address", "left over", "torchrun"],
    indirect=["environment"],
)
@pytest.mark.usefixtures("environment")
def test_a_wrong_key_is_printed_at_once_unless_another_rank_prints_it(
    delays: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(launcher, "exit_with_launcher", lambda: None)
    slept: list[float] = []
    monkeypatch.setattr("pipeline.cli.common.time.sleep", slept.append)
    assert common.exit_status(partial(train.main, ["model.hiden=3"]), distributed=True) == 2
    line = "model.hiden=3: no such key; did you mean model.hidden?\n"
    assert capsys.readouterr().err.endswith("" if delays else line)
    assert slept == [common.ERROR_DELAY] * delays


@pytest.mark.parametrize(
    "environment, waits",
    [
        ({"RANK": "1", "WORLD_SIZE": "2", **ADDRESS}, True),
        ({"RANK": "1", "WORLD_SIZE": "2", **ADDRESS, "TORCHELASTIC_RUN_ID": "x"}, False),
        ({}, False),
    ],
    ids=["left over", "torchrun", "one process"],
    indirect=["environment"],
)
@pytest.mark.usefixtures("environment")
def test_waiting_without_torchrun_is_logged(
    waits: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "NOTICE_SECONDS", 0.01)
    with launcher.notice_of_waiting(RankInfo.from_environment(), "rank 0"):
        time.sleep(0.5)
    line = "RANK=1 and WORLD_SIZE=2: waiting for rank 0; unset both to train in one process"
    assert caplog.messages == [line] * waits


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


@pytest.mark.distributed
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_worker_whose_launcher_died_before_it_looked_exits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    worker_code = (
        "import os, sys, time\n"
        "while os.getppid() == int(sys.argv[2]): time.sleep(0.01)\n"
        "from pipeline.runtime.launcher import exit_with_launcher\n"
        "exit_with_launcher(); open(sys.argv[1], 'w')"
    )
    launcher_code = (
        "import os, subprocess, sys, time; os.environ['TORCHELASTIC_RUN_ID'] = 'x'\n"
        f"print(subprocess.Popen([sys.executable, '-c', {worker_code!r}, {str(log)!r},"
        " str(os.getpid())],"
        " start_new_session=True).pid, flush=True); time.sleep(60)"
    )
    launcher = start([sys.executable, "-c", launcher_code])
    assert launcher.stdout
    worker = int(launcher.stdout.readline())
    launcher.kill()
    wait_for(lambda: not psutil.pid_exists(worker), 10)
    assert not log.exists()
    finish(launcher)


@pytest.mark.distributed
def test_worker_gets_sigterm_when_its_launcher_is_killed() -> None:
    """It can save its work."""
    worker_code = (
        "import signal, sys, time\n"
        "from pipeline.runtime.launcher import exit_with_launcher\n"
        "def save(*_): print('saved', flush=True); sys.exit()\n"
        "signal.signal(signal.SIGTERM, save)\n"
        "exit_with_launcher(poll_seconds=0.1); print('up', flush=True); time.sleep(60)"
    )
    launcher_code = (
        "import os, subprocess, sys, time; os.environ['TORCHELASTIC_RUN_ID'] = 'x'\n"
        f"subprocess.Popen([sys.executable, '-c', {worker_code!r}], start_new_session=True)\n"
        "time.sleep(60)"
    )
    launcher = start([sys.executable, "-c", launcher_code])
    assert launcher.stdout
    assert launcher.stdout.readline() == "up\n"
    launcher.kill()
    assert launcher.stdout.readline() == "saved\n"
    finish(launcher)
