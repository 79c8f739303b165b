"""Python's cyclic garbage collector at the start of a command."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Iterator[None]:
    """Pause the collector inside the block, and exclude the objects made there from collections.

    A full collection visits all objects of the imported libraries, which live as long as the
    process. With torch this takes a tenth of a second. Only for a process that runs one command.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_enabled:
            gc.enable()
