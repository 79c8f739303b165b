"""Signals that ask a run to stop. Imports no torch.

A signal ends the process at once, except in a block that can save its work (`deferred`). There the
signal is recorded, and the block ends itself.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)
REPEAT_SECONDS = 30.0
"""Seconds in which repeated signals are ignored until the work is saved: batch managers signal
torchrun and its workers, and torchrun signals the workers again."""
EXIT_SECONDS = 5.0
"""Seconds after which a process that has nothing to save is ended, even if it waits for others."""


class Stopped(SystemExit):
    """A signal has stopped the run; `code` is 128 plus the signal's number."""

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(128 + number)
        self.number = number
        name = signal.Signals(number).name
        self.line = f"stopped by {name}; {detail}the same command resumes"
        self.is_logged = bool(detail)


class StopSignal:
    """The first stop signal of this process."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal's number, if there was one."""
        self._time = 0.0
        self._is_deferred = self._is_saved = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals in the block. In a thread, where none arrive, they keep their
        handlers."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [n for n in SIGNALS if signal.getsignal(n) != signal.SIG_IGN]  # nohup ignores HUP
        before = [signal.signal(number, self._receive) for number in numbers]
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        has_ended = threading.Event()
        threading.Thread(target=self._watch, args=(reader, has_ended), daemon=True).start()
        try:
            yield
        finally:
            has_ended.set()
            signal.set_wakeup_fd(descriptor)
            os.close(writer)  # ends the watcher
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only record signals in the block, which looks at `number` and saves its work.

        A second signal ends the process at once if it arrives after `saved`, or 30 s after the
        first.
        """
        self._is_deferred, self._is_saved = True, False
        try:
            yield
        finally:
            self._is_deferred = False

    def saved(self) -> None:
        """Note that the work is saved, so that a further signal may end the process."""
        self._is_saved = True

    def _receive(self, number: int, frame: object) -> None:
        is_first = self.number is None
        if is_first:
            self.number, self._time = number, time.monotonic()
        if not self._is_deferred:
            if is_first:
                raise Stopped(number)
        elif not is_first and (self._is_saved or time.monotonic() - self._time > REPEAT_SECONDS):
            os._exit(128 + number)

    def _watch(self, reader: int, has_ended: threading.Event) -> None:
        """End the process `EXIT_SECONDS` after a signal if it has nothing to save.

        The main thread may wait for other processes in a function that no signal interrupts.
        """
        with os.fdopen(reader, "rb", buffering=0) as numbers:
            while received := numbers.read(1):
                if received[0] not in SIGNALS or self._is_deferred:
                    continue
                if not has_ended.wait(EXIT_SECONDS) and not self._is_deferred:
                    os._exit(128 + received[0])
