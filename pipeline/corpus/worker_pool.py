"""The worker processes of preparation, and their progress."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from tqdm import tqdm

from pipeline import components
from pipeline.errors import DatasetError

logger = logging.getLogger(__name__)

MB = 1_000_000
LOG_SECONDS = 5.0
POLL_SECONDS = 0.2

Item = TypeVar("Item")
Result = TypeVar("Result")

_advance: Callable[[int], None] = lambda count: None  # noqa: E731  replaced while work items run


def advance(count: int) -> None:
    """Report `count` more bytes as done, from a function that `WorkerPool.run` calls."""
    _advance(count)


class WorkerPool:
    """Runs a function on each of several work items, in worker processes.

    If there is only one worker or one item, or no shared memory, it runs in this process. When an
    error leaves the `with` block, the worker processes are terminated.
    """

    def __init__(self, workers: int) -> None:
        """`workers` is the number of processes, 0 for one per core."""
        self.workers = workers or len(os.sched_getaffinity(0))
        self._pool: ProcessPoolExecutor | None = None
        self._other_children = set(multiprocessing.active_children())

    def run(
        self, stage: str, function: Callable[[Item], Result], items: Sequence[Item], size: int
    ) -> list[Result]:
        """Return the function's results in the order of the items.

        `size` is the total that the items report by `advance`, in bytes. Raises DatasetError if a
        worker process dies, and the first error that an item raises.
        """
        with WorkProgress(stage, size) as progress:
            if self.workers == 1 or len(items) <= 1 or not self._start():
                return self._run_here(function, items, progress)
            with suppress(BrokenProcessPool):
                return self._run_in_pool(function, items, progress)
        # If Ctrl-C ended the worker, KeyboardInterrupt is raised here, without another traceback.
        time.sleep(0.5)
        raise DatasetError(
            f"{stage}: a worker process died, possibly for lack of memory; lower corpus.workers or "
            "corpus.chunk_mb; the same command resumes preparation"
        )

    def _start(self) -> bool:
        """Start the worker processes; return False, after a log line, if they have no semaphores.

        Semaphores are files in /dev/shm, which is small or not writable in some containers.
        """
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            try:
                self._done = context.Value("Q", 0)
                self._pool = ProcessPoolExecutor(
                    self.workers, context, _initialize, (self._done, components.loaded_files())
                )
            except (OSError, ImportError, NotImplementedError) as error:
                self.workers = 1
                logger.warning(
                    "/dev/shm: cannot be used by worker processes (%s); preparing in one process. "
                    "For several, start the container with a larger one (docker run --shm-size=1g "
                    "or --ipc=host)",
                    getattr(error, "strerror", None) or error,
                )
                return False
        return True

    def _run_here(
        self, function: Callable[[Item], Result], items: Sequence[Item], progress: "WorkProgress"
    ) -> list[Result]:
        global _advance
        before, _advance = _advance, progress.add
        try:
            return [function(item) for item in items]
        finally:
            _advance = before

    def _run_in_pool(
        self, function: Callable[[Item], Result], items: Sequence[Item], progress: "WorkProgress"
    ) -> list[Result]:
        assert self._pool is not None
        self._done.value = 0
        futures = [self._pool.submit(function, item) for item in items]
        waiting = set(futures)
        while waiting:
            finished, waiting = wait(waiting, POLL_SECONDS, FIRST_EXCEPTION)
            for future in finished:
                future.result()
            progress.set(self._done.value)
        return [future.result() for future in futures]

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._other_children:
                process.terminate()
        self._pool.shutdown(cancel_futures=True)


class WorkProgress:
    """A progress bar on a terminal; elsewhere a log line every few seconds."""

    def __init__(self, stage: str, total: int) -> None:
        """`total` is in bytes."""
        self._stage, self._total, self._done = stage, total, 0
        self._started = self._logged = time.monotonic()
        self._bar = tqdm(
            total=total, desc=stage, unit="B", unit_scale=True, leave=False,
            disable=not (sys.stderr.isatty() and logger.isEnabledFor(logging.INFO)),
        )  # fmt: skip

    def add(self, count: int) -> None:
        """Count more bytes as done."""
        self.set(self._done + count)

    def set(self, done: int) -> None:
        """Set the number of bytes done."""
        self._bar.update(done - self._done)
        self._done = done
        now = time.monotonic()
        if self._bar.disable and now - self._logged >= LOG_SECONDS:
            self._logged = now
            rate = done / MB / (now - self._started)
            logger.info(
                "%s: %.0f of %.0f MB, %.1f MB/s", self._stage, done / MB, self._total / MB, rate
            )

    def __enter__(self) -> "WorkProgress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()


def _initialize(done: Any, files: list[tuple[str, Path]]) -> None:
    """Set up a worker process.

    `files` are those of a user's components. The process tokenizes in one thread, exits without a
    traceback on Ctrl-C, and exits if its parent dies.
    """
    global _advance

    def add(count: int) -> None:
        with done.get_lock():
            done.value += count

    _advance = add
    components.load_files(files)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # ignored in a shell's background job
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
