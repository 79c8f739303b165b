"""The tie between a process and the torchrun that started it. Needs no torch, so that it is made
before torch is loaded."""

import os
import threading
import time


def end_with_launcher(every: float = 0.5) -> None:
    """End this process when torchrun dies, even by kill -9, which leaves its workers running.

    Else they would go on writing into the run folder beside the restarted run.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, name="headrace-launcher", daemon=True).start()
