"""Evaluation over all ranks, with exact counts."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from torch import Tensor

from pipeline.evaluation.accumulator import HOST, Accumulator
from pipeline.evaluation.bootstrap import Bootstrap
from pipeline.evaluation.diagnostics import Diagnostics
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.base.metric import Metric
from pipeline.tasks.base.task import Evaluation, Mistake, Task

Documents = Iterable[tuple[Tensor, Batch]]
"""Task outputs and batches, as `document_outputs` yields them."""


def evaluate(
    task: Task,
    documents: Documents,
    world: World,
    metrics: Sequence[Metric] = (),
    *,
    intervals: bool = False,
) -> tuple[Evaluation, list[Mistake]]:
    """Compute the metrics over the documents of all ranks, and the worst mistakes.

    Collective: every rank must call it. Raises TrainingError if there are no documents.

    Args:
        task: Task that scores the outputs.
        documents: The documents of this rank.
        world: Process group.
        metrics: Metrics in addition to those of `Task.summarize`.
        intervals: Whether to compute confidence intervals by bootstrap.
    """
    accumulator, diagnostics = Accumulator(task, metrics), Diagnostics(task)
    bootstrap = Bootstrap(task, metrics) if intervals else None
    for outputs, batch in on_host(documents):
        accumulator.add(outputs, batch)
        diagnostics.add(outputs, batch)
        if bootstrap:
            bootstrap.add(outputs, batch)
    evaluation = accumulator.evaluation(world)
    calibration, by_length = diagnostics.bins(world)
    evaluation = replace(
        evaluation,
        calibration=calibration,
        by_length=by_length,
        length_metric=diagnostics.length_metric,
    )
    if bootstrap:
        evaluation = replace(evaluation, intervals=bootstrap.intervals(world))
    return evaluation, accumulator.mistakes(world)


def on_host(documents: Documents) -> Iterator[tuple[Tensor, Batch]]:
    """Yield the documents on the CPU: one wait for the device instead of one per value."""
    for outputs, batch in documents:
        yield outputs.to(HOST), batch.to(HOST)
