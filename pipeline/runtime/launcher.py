"""How the program was started: commands to show, and exit when torchrun dies. Imports no torch."""

import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.storage.redaction import without_secret

logger = logging.getLogger(__name__)


LAUNCHER_VARIABLES = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
NUMBERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_PORT")
"""Variables of torchrun that are integers."""
NOTICE_SECONDS = 10.0
"""Seconds of waiting for other processes before a line is logged."""
SAVE_SECONDS = 20.0
"""Seconds that a process may save its work after its launcher has died."""
REAPERS = ("systemd", "init", "tini", "docker-init", "dumb-init", "containerd-shim")
LAUNCHERS = ("python", "torchrun", "pt_")
"""Beginnings of the names of processes that run torchrun."""
SEVERAL = "start several processes with torchrun"


@dataclass(frozen=True)
class RankInfo:
    """Rank of this process, as torchrun's environment gives it; a single process is rank 0 of 1."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> "RankInfo":
        """Return the rank; that of a single process if `environment_mistakes` has some."""
        if environment_mistakes():
            return cls()
        return cls(_number("RANK", 0), _number("LOCAL_RANK", 0), _number("WORLD_SIZE", 1))


def is_torchrun() -> bool:
    """Return whether torchrun started this process, and no other launcher."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def local_size() -> int:
    """Return the number of processes on this machine, if the launcher gives it; else 1."""
    return _number("LOCAL_WORLD_SIZE", 1)


def check_environment() -> None:
    """Raise ConfigError if only some of a launcher's variables are set in the environment.

    With these, this process would train alone with a wrong rank, or wait for processes that do not
    exist. Logs a line if the variables can be ignored.
    """
    if mistakes := environment_mistakes():
        raise ConfigError(mistakes)
    given = [name for name in LAUNCHER_VARIABLES if os.environ.get(name)]
    if given and not os.environ.get("WORLD_SIZE"):
        logger.info(
            "%s: ignored, because WORLD_SIZE is not set; training in one process", ", ".join(given)
        )


@contextmanager
def notice_of_waiting(info: RankInfo, awaited: str) -> Iterator[None]:
    """Log a line if the block waits for other processes longer than `NOTICE_SECONDS`.

    Nothing is logged under torchrun, which starts the processes. Otherwise, the variables may be
    left over from another program.
    """
    line = "RANK=%d and WORLD_SIZE=%d: waiting for %s; unset both to train in one process"
    timer = threading.Timer(NOTICE_SECONDS, logger.warning, (line, info.rank, info.size, awaited))
    timer.daemon = True
    if info.size > 1 and not is_torchrun():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


def environment_mistakes() -> list[str]:
    """Return a line for each variable of a launcher that contradicts the others."""
    env = os.environ
    wrong = [name for name in NUMBERS if env.get(name) and not env[name].strip().isdecimal()]
    if wrong:
        return [
            f"{name}={env[name]}: is not a whole number of 0 or more; unset it, or {SEVERAL}"
            for name in wrong
        ]
    size = _number("WORLD_SIZE", 1)
    if size == 0:
        return [f"WORLD_SIZE=0: is not a number of processes; unset it, or {SEVERAL}"]
    if size == 1:
        number = env.get("WORLD_SIZE") or "not set"
        return [
            f"{name}={env[name]}: WORLD_SIZE is {number}, so there is only rank 0; unset {name}, "
            f"or {SEVERAL}"
            for name in ("RANK", "LOCAL_RANK")
            if _number(name, 0)
        ]
    required = ("RANK", "MASTER_ADDR", "MASTER_PORT")
    if missing := [name for name in required if not env.get(name)]:
        problem = f"there is no {' and no '.join(missing)}"
        return [f"WORLD_SIZE={size}: {problem}; unset it to train in one process, or {SEVERAL}"]
    node_size = "LOCAL_WORLD_SIZE" if env.get("LOCAL_WORLD_SIZE") else "WORLD_SIZE"
    return [
        f"{name}={env[name]}: is not below {count}={env[count]}; unset both, or {SEVERAL}"
        for name, count in (("RANK", "WORLD_SIZE"), ("LOCAL_RANK", node_size))
        if _number(name, 0) >= _number(count, size)
    ]


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name) or default)


def command(name: str) -> str:
    """Return a command as the user types it, in the form in which this program was started."""
    program = Path(sys.argv[0])
    if program.resolve().parent.name == "launch":
        return f"python {program.parent / name}.py"
    return f"python -m pipeline.cli {name}" if program.name == "__main__.py" else f"headrace {name}"


def command_line() -> str:
    """Return the command that started this run, with torchrun and its numbers if it did, and
    without passwords and tokens."""
    program = Path(sys.argv[0])
    is_module = program.name == "__main__.py"  # sys.argv then has no name of the package
    shown = ["-m", "pipeline.cli"] if is_module else [_shown_program(program)]
    if is_torchrun():
        nodes = _number("GROUP_WORLD_SIZE", 1)
        several = [f"--nnodes={nodes}"] * (nodes > 1)
        shown = ["torchrun", *several, f"--nproc_per_node={local_size()}", *shown]
    elif is_module or program.suffix == ".py":
        shown = ["python", *shown]
    return shlex.join([*shown, *map(without_secret, sys.argv[1:])])


def program_name() -> str:
    """Return the launch script, or `headrace` and the command."""
    program = Path(sys.argv[0])
    if program.name in ("__main__.py", "headrace"):
        return " ".join(["headrace", *sys.argv[1:2]])
    return _shown_program(program)


def _shown_program(program: Path) -> str:
    """Return `launch/train.py` for a script of the folder `launch`, else the file's name."""
    in_launch = program.resolve().parent.name == "launch"
    return f"launch/{program.name}" if in_launch else program.name


def exit_with_launcher(poll_seconds: float = 0.5) -> None:
    """Start a thread that stops this process when torchrun dies, even by kill -9.

    Otherwise the workers would keep writing to the run folder of the restarted run. The process
    gets SIGTERM, so that it can save its work, and ends at the latest `SAVE_SECONDS` later. Checks
    every `poll_seconds` seconds. Does nothing in a process that torchrun did not start. Raises
    SystemExit if torchrun has already died.
    """
    if not is_torchrun():
        return
    launcher = os.getppid()
    if _is_reaper(launcher):
        raise SystemExit(1)

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(poll_seconds)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SAVE_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="headrace-launcher", daemon=True).start()


def _is_reaper(process: int) -> bool:
    """Return whether a process is one that adopts orphans, on Linux, and not torchrun itself.

    In a container, torchrun may be process 1.
    """
    try:
        name = Path(f"/proc/{process}/comm").read_text().strip()
    except OSError:
        return False
    return name in REAPERS or (process == 1 and not name.startswith(LAUNCHERS))
