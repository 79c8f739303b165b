"""Runs an iterator in a background thread, ahead of its consumer."""

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


def prefetch(items: Iterator[T], depth: int) -> Generator[T, None, None]:
    """Yield the items of an iterator that a thread runs at most `depth` items ahead.

    An error in the iterator is raised here, after the items before it. Closing this generator stops
    the thread, which also closes `items` if it is a generator.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()
    free_slots = threading.Semaphore(depth)
    stopped = threading.Event()

    def produce() -> None:
        try:
            while not stopped.is_set():
                if free_slots.acquire(timeout=0.1):
                    results.put((next(items), None))
        except BaseException as error:  # StopIteration at the end of the items
            results.put((None, error))
        finally:
            if isinstance(items, Generator):
                items.close()

    thread = threading.Thread(target=produce, name="headrace-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = results.get()
            free_slots.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]
    finally:
        stopped.set()
        thread.join()
