"""Reports of a run by rank 0: to `metrics.jsonl`, `report.html`, the trackers and the console."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.report.writer import ReportWriter
from pipeline.run.checkpoint import TrainingState
from pipeline.run.folder import RunFolder
from pipeline.stream.plan import Plan
from pipeline.tasks.base.sample import Sample
from pipeline.tasks.base.task import Evaluation, Mistake
from pipeline.tracking import environment, reports
from pipeline.tracking.base import NO_HIGHLIGHTS, Highlights
from pipeline.tracking.console import THROUGHPUT, ConsoleProgress, RunLength, evaluation_line
from pipeline.tracking.expected_time import ExpectedTime
from pipeline.tracking.jsonl_writer import JsonlWriter
from pipeline.tracking.settings import TrackSettings
from pipeline.tracking.tracking import Tracking

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Reporter:
    """The training loop's listener on rank 0.

    Use it as a context manager: on exit it closes the trackers with the right status. Set
    `killed` if a signal stopped the run.

    Args:
        settings: Tracking settings.
        run_name: Name of the run in the trackers.
        params: Config values by dotted key.
        manifest: Manifest of the training dataset.
        folder: Run folder.
        length: Rows, updates and epochs of the whole run.
        state: State that the run starts or resumes from.
        facts: Properties of this start, such as world size and device.
        plan: Plan of the training split, if there is one; a new run reports its row lengths.
        highlights: What the overview of the run shows first in a tracker.
    """

    def __init__(
        self,
        settings: TrackSettings,
        run_name: str,
        params: Mapping[str, Any],
        manifest: Manifest,
        folder: RunFolder,
        length: RunLength,
        state: TrainingState,
        facts: Mapping[str, Any],
        plan: Plan | None = None,
        highlights: Highlights = NO_HIGHLIGHTS,
    ) -> None:
        self.progress = ConsoleProgress(length, enabled=logger.isEnabledFor(logging.INFO))
        self._expected = ExpectedTime(length)
        self.metrics_file = JsonlWriter(folder.metrics, state.step, evaluates=state.evaluation_due)
        self.killed = False
        self._manifest, self._folder = manifest, folder.path
        self._throughput: dict[str, float] = {}
        self.tracking = None
        if settings.enabled and settings.trackers:
            self.tracking = Tracking(
                settings, folder.path, run_name, params, manifest, facts, highlights
            )
        self._report, self._environment = None, None
        if settings.report:
            self._report = ReportWriter(folder.path)
            self._environment = environment.write_in_thread(folder.path, facts, highlights.changed)
        if self._writes_reports and plan and not state.step:
            reports.write_length_histogram(folder.path, plan)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.close()
        with suppress(OSError):  # a full disk; the error that ends the run reports it
            self.metrics_file.close()
        if self._report and self._environment:
            self._environment.join(environment.TIMEOUT)
            self._report.write()  # before the trackers deliver it
        if self.tracking:
            failed = kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit))
            killed = self.killed or (kind is not None and not failed)
            self.tracking.close("FAILED" if failed else "KILLED" if killed else "FINISHED")

    def update(self, step: int, rows: int, metrics: Mapping[str, float]) -> None:
        if line := self._expected.update(step, time.perf_counter()):
            self.progress.say(line)
        self.progress.update(step, rows, {**metrics, **self._throughput})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "perf/tokens_per_s" in metrics:
            self._throughput = {THROUGHPUT: metrics["perf/tokens_per_s"]}
        self.metrics_file.log(step, metrics)  # the trackers follow this file

    def evaluated(
        self,
        step: int,
        evaluation: Evaluation,
        mistakes: list[Mistake],
        samples: Callable[[], list[Sample]],
        *,
        best_metric: str = "",
        is_best: bool = False,
    ) -> None:
        self.progress.say(evaluation_line(step, evaluation.metrics, best_metric, is_best=is_best))
        if self._writes_reports:
            rows = self._make_optional(
                "table of mistakes", lambda: [self._table_row(mistake) for mistake in mistakes]
            )
            mistaken_images = [
                Sample({name: _format(value) for name, value in row.items()}, mistake.image)
                for row, mistake in zip(rows, mistakes, strict=False)
                if mistake.image
            ]
            pages = {
                "samples": self._make_optional("samples", samples),
                "mistakes": mistaken_images,
            }
            reports.write_evaluation(self._folder, step, evaluation, rows, pages)
        if self._report:
            self._report.update()

    def saving(self) -> None:
        self.metrics_file.sync()

    @property
    def _writes_reports(self) -> bool:
        return bool(self.tracking or self._report)

    def _make_optional(self, name: str, make: Callable[[], list[T]]) -> list[T]:
        """Return `make()`, or log a warning and return an empty list if it fails.

        Reports for people to look at must never end a run.
        """
        try:
            return make()
        except ModuleNotFoundError as error:
            logger.warning("no %s in the reports: package `%s` is not installed", name, error.name)
        except Exception as error:
            logger.warning("no %s in the reports: %s: %s", name, type(error).__name__, error)
        return []

    def _table_row(self, mistake: Mistake) -> dict[str, Any]:
        tokens = mistake.tokens
        text = {"text": self._manifest.decode("tokenizer", tokens)} if tokens else {}
        return {**text, **mistake.details, "loss": mistake.loss}


def _format(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
