"""Evaluation on every rank, its counts exact over all of them."""

from collections.abc import Iterable

from torch import Tensor

from pipeline.errors import TrainingError
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.task import Evaluation, Mistake, Task

MISTAKES = 50
"""Documents that are kept of those that the model gets most wrong."""


def evaluate(
    task: Task, documents: Iterable[tuple[Tensor, Batch]], world: World
) -> tuple[Evaluation, list[Mistake]]:
    """Figures over all documents of all ranks, and the worst mistakes. Every rank must call it."""
    total: Tensor | None = None
    mistakes: list[Mistake] = []
    texts: list[tuple[str, ...]] = []
    for outputs, batch in documents:
        counts, wrong = task.evaluate(outputs, batch)
        texts += task.texts_to_score(outputs, batch)
        total = counts if total is None else total + counts
        mistakes = _worst(mistakes + wrong)
    if total is None:
        raise TrainingError("the validation split has no row that can be read; prepare it anew")
    everyones = [text for part in world.gather(texts) for text in part]
    evaluation = task.summarize(world.sum(total).cpu(), everyones)
    return evaluation, _worst([m for part in world.gather(mistakes) for m in part])


def _worst(mistakes: list[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda m: (-m.loss, m.tokens))[:MISTAKES]
