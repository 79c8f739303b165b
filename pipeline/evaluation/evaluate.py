"""Evaluation over all ranks, with exact counts."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pipeline import components
from pipeline.errors import TrainingError
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.base.metric import Metric, join_scored
from pipeline.tasks.base.task import MAX_MISTAKES, Evaluation, Mistake, Task

MAX_POINTS = 2000
"""Rows in a scatter plot of true and predicted numbers."""


def evaluate(
    task: Task,
    documents: Iterable[tuple[Tensor, Batch]],
    world: World,
    metrics: Sequence[Metric] = (),
) -> tuple[Evaluation, list[Mistake]]:
    """Compute the metrics over the documents of all ranks, and the worst mistakes.

    Collective: every rank must call it. Raises TrainingError if there are no documents.

    Args:
        task: Task that scores the outputs.
        documents: This rank's task outputs and batches, as `document_outputs` yields them.
        world: Process group.
        metrics: Metrics besides those that the task summarizes.
    """
    total: Tensor | None = None
    mistakes: list[Mistake] = []
    texts: list[tuple[str, ...]] = []
    scored: list[tuple[Tensor, Tensor]] = []
    host = torch.device("cpu")
    for outputs, batch in documents:
        outputs, batch = outputs.to(host), batch.to(host)  # one wait instead of one per value
        sums, batch_mistakes = task.evaluate(outputs, batch)
        texts += task.texts_to_score(outputs, batch)
        if metrics:
            rows = batch.weights > 0
            predictions, targets = task.scored(outputs, batch)
            scored.append((predictions[rows], targets[rows].double()))
        total = sums if total is None else total + sums
        mistakes = _worst(mistakes + batch_mistakes)
    if total is None:
        raise TrainingError("the validation split has no readable row; prepare the dataset again")
    all_texts = [text for rank_texts in world.gather(texts) for text in rank_texts]
    evaluation = task.summarize(world.sum(total.to(world.device)).to(host), all_texts)
    if metrics:
        evaluation = _add_metrics(evaluation, metrics, world.gather(scored))
    all_mistakes = [m for rank_mistakes in world.gather(mistakes) for m in rank_mistakes]
    return evaluation, _worst(all_mistakes)


def _add_metrics(
    evaluation: Evaluation,
    metrics: Sequence[Metric],
    scored: Sequence[Sequence[tuple[Tensor, Tensor]]],
) -> Evaluation:
    """Return an evaluation with further metrics of the predictions and targets of all ranks."""
    predictions, targets, has_unknown = join_scored(
        [pair for rank_pairs in scored for pair in rank_pairs]
    )
    if has_unknown:
        metrics = [metric.with_unknown() for metric in metrics]
    added = {metric.name: _compute(metric, predictions, targets) for metric in metrics}
    points: list[tuple[float, float]] = []
    if predictions.ndim == 1:
        chosen = torch.linspace(
            0, len(targets) - 1, min(len(targets), MAX_POINTS), dtype=torch.float64
        ).long()
        order = targets.argsort(stable=True)[chosen]  # over the whole range of true numbers
        points = list(zip(targets[order].tolist(), predictions[order].tolist(), strict=True))
    return replace(evaluation, metrics=evaluation.metrics | added, scatter=points)


def _compute(metric: Metric, predictions: Tensor, targets: Tensor) -> float:
    """Raises TrainingError for an exception in the metric."""
    try:
        return float(metric.compute(predictions.clone(), targets.clone()))
    except Exception as error:
        raise TrainingError(
            f"task.metrics: {metric.name}: {components.describe(error)}; fix it"
        ) from error


def _worst(mistakes: list[Mistake]) -> list[Mistake]:
    """The mistakes with the highest loss; ties are broken by their tokens, not by rank."""
    return sorted(mistakes, key=lambda m: (-m.loss, m.tokens))[:MAX_MISTAKES]
