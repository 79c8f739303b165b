"""The processes that prepare, and what they show of their progress."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

from pipeline.errors import DatasetError
from pipeline.storage.atomic import MB

LOG_SECONDS = 5.0
POLL_SECONDS = 0.2

U = TypeVar("U")
R = TypeVar("R")

_advance: Callable[[int], None] = lambda done: None  # noqa: E731  set while units run


def advance(done: int) -> None:
    """Called by a unit: so many more bytes are done."""
    _advance(done)


class WorkerPool:
    """Runs units of work over processes; in this one if one is enough.

    Results come in the order of the units. After an error nothing goes on in the background.
    """

    def __init__(self, workers: int, log: Callable[[str], None]) -> None:
        self.workers = workers or len(os.sched_getaffinity(0))
        self._log = log
        self._pool: ProcessPoolExecutor | None = None
        self._others = set(multiprocessing.active_children())

    def run(self, what: str, do: Callable[[U], R], units: Sequence[U], size: int) -> list[R]:
        """`do` of each unit; `size` is the bytes that the units will say they have done."""
        with WorkProgress(what, size, self._log) as progress:
            if self.workers == 1 or len(units) <= 1:
                return self._run_here(do, units, progress)
            try:
                return self._run_in_pool(do, units, progress)
            except BrokenProcessPool:
                time.sleep(0.5)  # a Ctrl-C ends the workers too, and is about to be raised here
                raise DatasetError(
                    f"{what}: a worker process died, killed perhaps for want of memory; lower "
                    "corpus.workers or corpus.chunk_mb; preparing again goes on from what is done"
                ) from None

    def _run_here(
        self, do: Callable[[U], R], units: Sequence[U], progress: "WorkProgress"
    ) -> list[R]:
        global _advance
        before, _advance = _advance, progress.add
        try:
            return [do(unit) for unit in units]
        finally:
            _advance = before

    def _run_in_pool(
        self, do: Callable[[U], R], units: Sequence[U], progress: "WorkProgress"
    ) -> list[R]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._done = context.Value("Q", 0)
            self._pool = ProcessPoolExecutor(self.workers, context, _start, (self._done,))
        self._done.value = 0
        futures = [self._pool.submit(do, unit) for unit in units]
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
            for future in finished:
                future.result()
            progress.to(self._done.value)
        return [future.result() for future in futures]

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._pool.shutdown(cancel_futures=True)


class WorkProgress:
    """A bar on a terminal, a line every few seconds elsewhere."""

    def __init__(self, what: str, total: int, log: Callable[[str], None]) -> None:
        self._what, self._total, self._log = what, total, log
        self._done = 0
        self._begun = self._logged = time.monotonic()
        self._bar = tqdm(
            total=total, desc=what, unit="B", unit_scale=True, leave=False,
            disable=not sys.stderr.isatty(),
        )  # fmt: skip

    def add(self, done: int) -> None:
        self.to(self._done + done)

    def to(self, done: int) -> None:
        """So many bytes are done in all."""
        self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._bar.disable and now - self._logged >= LOG_SECONDS:
            self._logged = now
            rate = done / MB / (now - self._begun)
            share = f"{done / MB:.0f} of {self._total / MB:.0f} MB"
            self._log(f"{self._what}: {share}, {rate:.1f} MB/s")

    def __enter__(self) -> "WorkProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


def _start(done: Any) -> None:
    """In a new worker: one tokenizer thread, a silent end by Ctrl-C, an end with the parent."""
    global _advance

    def add(count: int) -> None:
        with done.get_lock():
            done.value += count

    _advance = add
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if (
        signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    ):  # as a shell's background jobs have it
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
