"""Metrics of a server, in the text format of Prometheus.

Each of several processes writes its values to files in the folder PROMETHEUS_MULTIPROC_DIR, and any
of them answers with the sums over all processes. This environment variable must be set before the
module is imported.
"""

import os
from typing import Any

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """The metrics of one process."""

    def __init__(self) -> None:
        registry = CollectorRegistry()

        def make(kind: type, name: str, text: str, *labels: str, **more: Any) -> Any:
            return kind(f"headrace_{name}", text, labels, registry=registry, **more)

        self.requests: Counter = make(
            Counter, "requests", "Requests by path and status.", "path", "status"
        )
        self.request_seconds: Histogram = make(
            Histogram, "request_seconds", "Time to answer a prediction.", buckets=SECONDS
        )
        self.batch_size: Histogram = make(
            Histogram, "batch_size", "Inputs in a batch.", buckets=SIZES
        )
        self.batch_seconds: Histogram = make(
            Histogram, "batch_seconds", "Time of the model for a batch.", buckets=SECONDS
        )
        self.queue: Gauge = make(
            Gauge, "queue_length", "Inputs waiting for the model.", multiprocess_mode="livesum"
        )
        self.rows: Counter = make(Counter, "rows", "Predicted inputs.")
        self.row_errors: Counter = make(
            Counter, "row_errors", "Inputs whose prediction is an error."
        )
        self._registry = registry
        if FOLDER in os.environ:
            self._registry = CollectorRegistry()
            MultiProcessCollector(self._registry)
        else:
            ProcessCollector(registry=registry)

    def render(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self._registry)
