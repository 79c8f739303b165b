"""Runs an iterator ahead of its consumer, in a thread."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Run an iterator in a thread, at most `depth` items ahead of the one in use."""
    ready: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    room = threading.Semaphore(depth)
    left = threading.Event()

    def work() -> None:
        try:
            while not left.is_set():
                if room.acquire(timeout=0.1):
                    ready.put((next(items), None))
        except BaseException as error:  # its end is a StopIteration
            ready.put((None, error))
        finally:
            if isinstance(items, Generator):
                items.close()

    thread = threading.Thread(target=work, name="headrace-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            room.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        left.set()
        thread.join()
