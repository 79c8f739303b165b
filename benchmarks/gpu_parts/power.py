"""Sample a GPU's power while something runs."""

import statistics
import subprocess
import threading

from benchmarks.gpu_parts.steps import Machine

SAMPLE_SECONDS = 0.5
MIN_UTILIZATION = 50
"""Minimum GPU utilization in percent; samples below it are dropped."""


class Power:
    """Samples the GPU's power draw with nvidia-smi; the median is 0 if it cannot be read."""

    def __init__(self, machine: Machine) -> None:
        self._is_gpu, self._samples, self._stop = machine.is_gpu, [0.0], threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)

    @property
    def median(self) -> float:
        """The median of the samples, in watts."""
        return statistics.median(self._samples[1:] or self._samples)

    def __enter__(self) -> "Power":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        query = "--query-gpu=power.draw,utilization.gpu"
        command = ["nvidia-smi", query, "--format=csv,noheader,nounits"]
        while self._is_gpu and not self._stop.wait(SAMPLE_SECONDS):
            done = subprocess.run(command, capture_output=True, text=True)
            try:
                power, utilization = map(float, done.stdout.splitlines()[0].split(","))
            except (IndexError, ValueError):
                return
            if utilization >= MIN_UTILIZATION:  # else the program starts, or writes files
                self._samples.append(power)
