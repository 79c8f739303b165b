"""Accumulates the sums, texts, predictions and targets of an evaluation over documents."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.errors import TrainingError
from pipeline.evaluation.scoring import add_metrics
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.base.metric import Metric
from pipeline.tasks.base.task import MAX_MISTAKES, Evaluation, Mistake, Task

HOST = torch.device("cpu")


class Accumulator:
    """Accumulates the results of this rank's documents, without keeping their model outputs."""

    def __init__(self, task: Task, metrics: Sequence[Metric] = ()) -> None:
        self._task, self._metrics = task, metrics
        self._total: Tensor | None = None
        self._mistakes: list[Mistake] = []
        self._texts: list[tuple[str, ...]] = []
        self._scored: list[tuple[Tensor, Tensor]] = []

    def add(self, outputs: Tensor, batch: Batch) -> None:
        """Add the documents of a batch on the CPU, with the task's outputs."""
        sums, mistakes = self._task.evaluate(outputs, batch)
        self._texts += self._task.texts_to_score(outputs, batch)
        if self._metrics:
            rows = batch.weights > 0
            predictions, targets = self._task.scored(outputs, batch)
            self._scored.append((predictions[rows], targets[rows].double()))
        self._total = sums if self._total is None else self._total + sums
        self._mistakes = _worst(self._mistakes + mistakes)

    def evaluation(self, world: World) -> Evaluation:
        """Compute the metrics over the documents of all ranks.

        Collective: every rank must call it. Raises TrainingError if a rank has no documents.
        """
        if self._total is None:
            raise TrainingError("the split has no readable row; prepare the dataset again")
        texts = [text for rank_texts in world.gather(self._texts) for text in rank_texts]
        sums = world.sum(self._total.to(world.device)).to(HOST)
        evaluation = self._task.summarize(sums, texts)
        if self._metrics:
            scored = [pair for rank_pairs in world.gather(self._scored) for pair in rank_pairs]
            evaluation = add_metrics(evaluation, self._metrics, scored)
        return evaluation

    def mistakes(self, world: World) -> list[Mistake]:
        """Return the worst mistakes of all ranks. Collective: every rank must call it."""
        return _worst([m for rank_mistakes in world.gather(self._mistakes) for m in rank_mistakes])


def _worst(mistakes: list[Mistake]) -> list[Mistake]:
    """Return the mistakes with the highest loss; ties are broken by their tokens, not by rank."""
    return sorted(mistakes, key=lambda m: (-m.loss, m.tokens))[:MAX_MISTAKES]
