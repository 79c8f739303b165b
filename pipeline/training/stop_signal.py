"""Signals that ask a run to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignal:
    """Records the first stop signal; a second one ends the process at once."""

    def __init__(self) -> None:
        self.number: int | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals inside the block. In a thread, where none arrive, they keep their
        handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def record(number: int, frame: object) -> None:
            self.number = number
            signal.signal(number, signal.SIG_DFL)

        before = [signal.signal(number, record) for number in SIGNALS]
        try:
            yield
        finally:
            for number, handler in zip(SIGNALS, before, strict=True):
                signal.signal(number, handler)
