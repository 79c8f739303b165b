"""Memory of a process: its peak, and allocator settings that keep freed memory on a CPU."""

import ctypes
import os
import resource
import sys

import torch

CACHED_PRODUCTS = 16
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


def limit_primitive_caches() -> None:
    """Limit the caches of PyTorch's and oneDNN's compiled products, by their variables.

    Each product in bf16 of a new shape adds its buffer, of the size of its result, to both caches.
    With batches of ever new shapes the 1,024 entries of the default become gigabytes. Compiling a
    product again takes about a millisecond. Has no effect after the first product of this process.
    """
    for variable in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(variable, str(CACHED_PRODUCTS))


def peak_memory_mb() -> float:
    """Return the peak resident memory of this process (Linux reports KiB, macOS bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def peak_gpu_memory_mb() -> float:
    """Return the peak memory of the tensors on this process's GPU, 0 without one."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_initialized() else 0.0
