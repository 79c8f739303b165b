"""How the program was started: commands to show, and exit when torchrun dies. Imports no torch."""

import os
import sys
import threading
import time
from pathlib import Path


def command(name: str) -> str:
    """Return a command as the user types it: a script of launch/ if one was started."""
    script = Path(sys.argv[0]).with_name(f"{name}.py")
    return f"python {script}" if script.parent.name == "launch" else f"headrace {name}"


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
