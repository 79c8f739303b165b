"""How the program was started: commands to show, and exit when torchrun dies. Imports no torch."""

import os
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RankInfo:
    """Rank of this process, as torchrun's environment gives it; a single process is rank 0 of 1."""

    rank: int = 0
    local_rank: int = 0
    size: int = 1

    @classmethod
    def from_environment(cls) -> "RankInfo":
        env = os.environ
        return cls(
            int(env.get("RANK") or 0), int(env.get("LOCAL_RANK") or 0),
            int(env.get("WORLD_SIZE") or 1),
        )  # fmt: skip


def command(name: str) -> str:
    """Return a command as the user types it, in the form in which this program was started."""
    program = Path(sys.argv[0])
    if program.resolve().parent.name == "launch":
        return f"python {program.parent / name}.py"
    return f"python -m pipeline.cli {name}" if program.name == "__main__.py" else f"headrace {name}"


def exit_with_launcher(poll_seconds: float = 0.5) -> None:
    """Start a thread that ends this process when torchrun dies, even by kill -9.

    Otherwise the workers would keep writing to the run folder beside the restarted run. Checks
    every `poll_seconds` seconds. Does nothing in a process that torchrun did not start.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(poll_seconds)
        os._exit(1)

    threading.Thread(target=watch, name="headrace-launcher", daemon=True).start()
