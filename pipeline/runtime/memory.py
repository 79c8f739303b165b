"""Memory of a CPU process: keep what was freed, as the next update needs it again."""

import ctypes
import sys

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Make glibc's malloc keep large buffers instead of returning them to the system at once.

    By default each tensor of more than a few MB is a fresh mapping, whose every page costs a
    fault when it is first written: with a recurrent layer's buffers a third of the time of an
    update. It costs up to about twice the resident memory. Returns whether the C library has it.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 256 * 2**20}
    return all(mallopt(name, value) for name, value in settings.items())
