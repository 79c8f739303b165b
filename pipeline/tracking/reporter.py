"""What rank 0 tells of a run: `metrics.jsonl`, MLflow, and the person at the terminal."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any, TypeVar

from pipeline.config import Config
from pipeline.corpus.dataset.manifest import Manifest
from pipeline.run.checkpoint import TrainingState
from pipeline.run.folder import RunFolder
from pipeline.stream.plan import Plan
from pipeline.tasks.sample import Sample
from pipeline.tasks.task import Evaluation, Mistake
from pipeline.tracking.console import ConsoleProgress
from pipeline.tracking.jsonl_writer import JsonlWriter
from pipeline.tracking.tracker import Tracker

T = TypeVar("T")


class Reporter:
    """The loop's listener, of a run of `rows` over all epochs that has a `plan` if it is exact.

    As a context it closes the MLflow run with the right status.
    """

    def __init__(
        self,
        config: Config,
        manifest: Manifest,
        folder: RunFolder,
        rows: int,
        state: TrainingState,
        facts: Mapping[str, Any],
        plan: Plan | None = None,
    ) -> None:
        self.progress = ConsoleProgress(rows, state.rows, shown=True)
        self.record = JsonlWriter(folder.metrics, state.step)
        self.killed = False
        self._manifest = manifest
        self._speed: dict[str, float] = {}
        self.tracker = None
        if config.track.enabled:
            self.tracker = Tracker(config.track, folder.path, config, manifest, dict(facts))
            if plan and not state.step:
                self.tracker.histogram(plan)

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.progress.close()
        with suppress(OSError):  # a full disk; whatever ends the run says so
            self.record.close()
        if self.tracker:
            failed = kind is not None and not issubclass(kind, (KeyboardInterrupt, SystemExit))
            killed = self.killed or (kind is not None and not failed)
            self.tracker.close("FAILED" if failed else "KILLED" if killed else "FINISHED")

    def update(self, step: int, rows: int, metrics: Mapping[str, float]) -> None:
        self.progress.update(step, rows, {**metrics, **self._speed})

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        if "perf/tokens_per_s" in metrics:
            self._speed = {"tokens_per_s": metrics["perf/tokens_per_s"]}
        self.record.log(step, metrics)  # the tracker follows the file

    def evaluated(
        self,
        step: int,
        evaluation: Evaluation,
        mistakes: list[Mistake],
        samples: Callable[[], list[Sample]],
    ) -> None:
        figures = "  ".join(f"{k} {v:.4g}" for k, v in evaluation.metrics.items())
        self.progress.say(f"step {step}  validation: {figures}")
        if self.tracker:
            told = self._or_none("table of mistakes", lambda: [self._told(m) for m in mistakes])
            pictured = [
                Sample({name: _brief(value) for name, value in row.items()}, mistake.image)
                for row, mistake in zip(told, mistakes, strict=False)
                if mistake.image
            ]
            pages = {"samples": self._or_none("samples", samples), "mistakes": pictured}
            self.tracker.evaluation(step, evaluation, told, pages)

    def saving(self) -> None:
        self.record.sync()

    def _or_none(self, what: str, make: Callable[[], list[T]]) -> list[T]:
        """What is made to be looked at, or nothing: a run does not end for want of it."""
        try:
            return make()
        except ModuleNotFoundError as error:
            self.progress.say(f"no {what} in MLflow: reading them needs `{error.name}`")
        except Exception as error:
            self.progress.say(f"no {what} in MLflow: {type(error).__name__}: {error}")
        return []

    def _told(self, mistake: Mistake) -> dict[str, Any]:
        tokens = mistake.tokens
        text = {"text": self._manifest.decode("tokenizer", tokens)} if tokens else {}
        return {**text, **mistake.details, "loss": mistake.loss}


def _brief(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
