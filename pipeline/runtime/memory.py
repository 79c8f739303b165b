"""Allocator settings of a CPU process: freed memory is kept for the next update."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep large freed buffers instead of returning them to the system.

    By default every tensor of more than a few MB is a new memory mapping, and the first write to
    each of its pages costs a page fault: a third of an update's time with the buffers of recurrent
    layers. Keeping them up to about doubles the resident memory. Returns False where the C library
    has no such setting.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 256 * 2**20}
    return all(mallopt(name, value) for name, value in settings.items())
