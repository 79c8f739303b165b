"""The speed and the shape of the updates, on one rank's clock."""

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.stream.loader import Update


class Meter:
    """Counts since the last reading, and the seconds of training so far without pauses."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._since = time.perf_counter()
        self._reset(seconds)

    @property
    def seconds(self) -> float:
        """Seconds of training, those of earlier sessions included."""
        return self._before + time.perf_counter() - self._since

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What happens inside is no training: evaluation, checkpoints."""
        self._before = self.seconds
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def waits(self, updates: Iterator[Update]) -> Iterator[Update]:
        """The same updates, the time spent waiting for them counted."""
        while True:
            start = time.perf_counter()
            update = next(updates, None)
            self._waited += time.perf_counter() - start
            if update is None:
                return
            yield update

    def add(self, tokens: int, padded: int, norm: float) -> None:
        """What an update did over all ranks: its tokens, without padding and with."""
        self._tokens += tokens
        self._padded += padded
        self._norm = norm

    def read(self, device: torch.device) -> dict[str, float]:
        """The figures since the last reading, over all ranks where they can be known here."""
        seconds = max(self.seconds - self._start, 1e-9)
        metrics = {
            "optim/grad_norm": self._norm,
            "perf/tokens_per_s": self._tokens / seconds,
            "perf/padding_fraction": 1 - self._tokens / max(self._padded, 1),
            "perf/data_wait_fraction": self._waited / seconds,
            "perf/memory_mb": _peak_memory_mb(),
        }
        if device.type == "cuda":
            metrics["perf/gpu_memory_mb"] = torch.cuda.max_memory_allocated(device) / 2**20
        self._reset(self.seconds)
        return metrics

    def _reset(self, start: float) -> None:
        self._start, self._waited = start, 0.0
        self._tokens = self._padded = 0
        self._norm = 0.0


def _peak_memory_mb() -> float:
    """The greatest resident memory of this process so far (Linux counts in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10
