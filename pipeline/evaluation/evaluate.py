"""Evaluation over all ranks, with exact counts."""

from collections.abc import Iterable

import torch
from torch import Tensor

from pipeline.errors import TrainingError
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.base.task import Evaluation, Mistake, Task

MAX_MISTAKES = 50
"""Worst mistakes that an evaluation keeps."""


def evaluate(
    task: Task, documents: Iterable[tuple[Tensor, Batch]], world: World
) -> tuple[Evaluation, list[Mistake]]:
    """Compute the metrics over the documents of all ranks, and the worst mistakes.

    Collective: every rank must call it. Raises TrainingError if there are no documents.

    Args:
        task: Task that scores the outputs.
        documents: This rank's task outputs and batches, as `document_outputs` yields them.
        world: Process group.
    """
    total: Tensor | None = None
    mistakes: list[Mistake] = []
    texts: list[tuple[str, ...]] = []
    host = torch.device("cpu")
    for outputs, batch in documents:
        outputs, batch = outputs.to(host), batch.to(host)  # one wait instead of one per value
        sums, batch_mistakes = task.evaluate(outputs, batch)
        texts += task.texts_to_score(outputs, batch)
        total = sums if total is None else total + sums
        mistakes = _worst(mistakes + batch_mistakes)
    if total is None:
        raise TrainingError("the validation split has no readable row; prepare the dataset again")
    all_texts = [text for rank_texts in world.gather(texts) for text in rank_texts]
    evaluation = task.summarize(world.sum(total.to(world.device)).to(host), all_texts)
    all_mistakes = [m for rank_mistakes in world.gather(mistakes) for m in rank_mistakes]
    return evaluation, _worst(all_mistakes)


def _worst(mistakes: list[Mistake]) -> list[Mistake]:
    """The mistakes with the highest loss; ties are broken by their tokens, not by rank."""
    return sorted(mistakes, key=lambda m: (-m.loss, m.tokens))[:MAX_MISTAKES]
