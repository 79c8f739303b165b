"""Sample a GPU's power while something runs."""

import statistics
import subprocess
import threading

from benchmarks.gpu_parts.steps import Machine


class Power:
    """Samples the GPU's power once a second, by nvidia-smi; 0 if it cannot be read."""

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
        query = ["nvidia-smi", "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
        while self._is_gpu and not self._stop.wait(1):
            done = subprocess.run(query, capture_output=True, text=True)
            try:
                self._samples.append(float(done.stdout.split()[0]))
            except (IndexError, ValueError):
                return
