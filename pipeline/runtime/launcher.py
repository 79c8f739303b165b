"""Ends workers whose torchrun is gone. Imports no torch, so that it can run before torch loads."""

import os
import threading
import time


def end_with_launcher(every: float = 0.5) -> None:
    """Start a thread that ends this process when torchrun dies, even by kill -9.

    Otherwise the workers would keep writing to the run folder beside the restarted run. Checks
    `every` seconds. Does nothing in a process that torchrun did not start.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, name="headrace-launcher", daemon=True).start()
