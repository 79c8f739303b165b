"""Evaluation of a split of the dataset, and the transfer of batches to the device."""

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.errors import TrainingError
from pipeline.evaluation.evaluate import evaluate, on_host
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.runtime.device import pinned
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.runtime.stop_signal import StopSignal
from pipeline.stream.batch import Batch
from pipeline.stream.plan import Position
from pipeline.stream.prefetch import prefetch
from pipeline.stream.resumable import Update, Updates
from pipeline.tasks.base.metric import Metric
from pipeline.tasks.base.task import Evaluation, Mistake, Task

GPU_UPDATES_PER_LOOK = 16


class EvaluationStoppedError(Exception):
    """A stop signal has ended an evaluation, on all ranks before the same batch."""


class DocumentSink(Protocol):
    """An object that reads the documents of an evaluation."""

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Add the documents of a batch on the CPU, with the task's outputs."""


@dataclass(frozen=True)
class SplitEvaluator:
    """Evaluates models on splits. Every rank takes part."""

    task: Task
    metrics: Sequence[Metric]
    """Metrics that are evaluated besides those of the task."""
    precision: Precision
    world: World
    max_corrupt_ratio: float
    """`stream.max_corrupt_ratio`."""
    stop: StopSignal
    """The signal that ends an evaluation between two batches."""

    def evaluate(
        self,
        model: nn.Module,
        split: Updates,
        *,
        observe: Callable[[Iterable[Batch]], Iterator[Batch]] | None = None,
        intervals: bool = False,
        sinks: Sequence[DocumentSink] = (),
    ) -> tuple[Evaluation, list[Mistake], int]:
        """Return the evaluation of a split, the worst mistakes, and the number of unreadable rows
        on this rank.

        Raises TrainingError if too many rows, or all of them, cannot be read, and
        EvaluationStoppedError on all ranks if one of them got a stop signal.

        Args:
            model: Model to evaluate.
            split: The split's batches.
            observe: Receives the batches and yields them unchanged.
            intervals: Whether to compute confidence intervals.
            sinks: Are given the documents, too.
        """
        skipped = torch.zeros(1, dtype=torch.float64, device=self.world.device)

        def batches(updates: Iterable[Update]) -> Iterator[Batch]:
            for number, update in enumerate(updates):
                self._check_stop(number)
                skipped.add_(update.skipped)
                yield from update.batches

        updates = transferable(split.prefetched(Position()), self.world.device)
        with closing(updates):
            inputs = observe(batches(updates)) if observe else batches(updates)
            outputs = document_outputs(self.task, model, inputs, self.precision, self.world)
            if sinks:
                outputs = _observed(outputs, sinks)
            evaluation, mistakes = evaluate(
                self.task, outputs, self.world, self.metrics, intervals=intervals
            )
        self._check(int(self.world.sum(skipped)), evaluation)
        return evaluation, mistakes, int(skipped)

    def _check_stop(self, number: int) -> None:
        """Raise EvaluationStoppedError if any rank got a stop signal, before the update `number`.

        On a GPU the ranks look only every 16th time, because each look waits for the device.
        """
        device = self.world.device
        if number % (1 if device.type == "cpu" else GPU_UPDATES_PER_LOOK):
            return
        signaled = torch.tensor([float(self.stop.number is not None)], device=device)
        if self.world.sum(signaled).item():
            raise EvaluationStoppedError

    def _check(self, skipped: int, evaluation: Evaluation) -> None:
        examples = int(evaluation.metrics["examples"])
        check_skipped(skipped, skipped + examples, self.max_corrupt_ratio)
        if not examples:
            raise TrainingError(
                f"none of the {skipped:,} rows of the split can be read, so the model cannot be "
                f"evaluated; prepare the dataset again"
            )


def _observed(
    documents: Iterator[tuple[Tensor, Batch]], sinks: Sequence[DocumentSink]
) -> Iterator[tuple[Tensor, Batch]]:
    """Yield documents on the CPU, and add them to the sinks."""
    for outputs, batch in on_host(documents):
        for sink in sinks:
            sink.add(outputs, batch)
        yield outputs, batch


def check_skipped(rows: int, total: int, limit: float) -> None:
    """Raise TrainingError if more than a share `limit` of the rows could not be read."""
    if rows > limit * total:
        raise TrainingError(
            f"stream.max_corrupt_ratio={limit}: {rows:,} of {total:,} rows are in damaged "
            f"blocks and were skipped; repair the shards that the warnings name, or raise "
            f"stream.max_corrupt_ratio"
        )


def transferable(
    updates: Generator[Update, None, None],
    device: torch.device,
    prepare: Callable[[Batch], Batch] | None = None,
) -> Generator[Update, None, None]:
    """Prepare batches for the transfer to the device; for a GPU, a thread runs one update ahead."""

    def prepared() -> Generator[Update, None, None]:
        with closing(updates):
            for update in updates:
                batches = (
                    [prepare(batch) for batch in update.batches] if prepare else update.batches
                )
                yield replace(update, batches=pinned(batches, device))

    return prefetch(prepared(), 1) if device.type == "cuda" else prepared()
