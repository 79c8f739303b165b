"""Speed of training and share of padding, measured on one rank."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pipeline.runtime.memory import peak_gpu_memory_mb, peak_memory_mb
from pipeline.stream.resumable import Update


class Meter:
    """Counts since the last reading, and the training time so far, pauses excluded."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._before = seconds
        self._since = time.perf_counter()
        self._reset(seconds)

    @property
    def seconds(self) -> float:
        """Training time in seconds, earlier sessions of the run included."""
        return self._before + time.perf_counter() - self._since

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Exclude the block from the training time: evaluation, checkpoints."""
        self._before = self.seconds
        try:
            yield
        finally:
            self._since = time.perf_counter()

    def waits(self, updates: Iterator[Update]) -> Iterator[Update]:
        """Yield the updates and measure the time spent waiting for them."""
        while True:
            start = time.perf_counter()
            update = next(updates, None)
            self._waited += time.perf_counter() - start
            if update is None:
                return
            yield update

    def add(self, tokens: int, padded: int, norm: float) -> None:
        """Add an update's counts over all ranks: tokens without padding, and with padding."""
        self._tokens += tokens
        self._padded += padded
        self._norm = norm

    def read(self, device: torch.device) -> dict[str, float]:
        """Return the metrics since the last reading, over all ranks where this rank knows them."""
        seconds = max(self.seconds - self._start, 1e-9)
        metrics = {
            "optim/grad_norm": self._norm,
            "perf/tokens_per_s": self._tokens / seconds,
            "perf/padding_fraction": 1 - self._tokens / max(self._padded, 1),
            "perf/data_wait_fraction": self._waited / seconds,
            "perf/memory_mb": peak_memory_mb(),
        }
        if device.type == "cuda":
            metrics["perf/gpu_memory_mb"] = peak_gpu_memory_mb()
        self._reset(self.seconds)
        return metrics

    def _reset(self, start: float) -> None:
        self._start, self._waited = start, 0.0
        self._tokens = self._padded = 0
        self._norm = 0.0
