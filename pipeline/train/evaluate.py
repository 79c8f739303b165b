"""Evaluation on every rank, its counts exact over all of them."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.stream.batch import Batch
from pipeline.tasks.task import Evaluation, Mistake, Task
from pipeline.train.distributed import World
from pipeline.train.precision import Precision

MISTAKES = 50
"""Rows that are kept of those that the model gets most wrong."""


@torch.no_grad()
def evaluate(
    task: Task, model: nn.Module, batches: Iterable[Batch], precision: Precision, world: World
) -> tuple[Evaluation, list[Mistake]]:
    """Figures over all batches of all ranks, and the worst mistakes. Every rank must call it."""
    model.eval()
    total: Tensor | None = None
    mistakes: list[Mistake] = []
    for batch in batches:
        with precision.autocast():
            tally, wrong = task.evaluate(model, batch.to(world.device))
        total = tally if total is None else total + tally
        mistakes = _worst(mistakes + wrong)
    model.train()
    if total is None:
        raise InputError("there is no row to evaluate; give a file with a text and a label")
    evaluation = task.evaluation(world.sum(total).cpu())
    return evaluation, _worst([m for part in world.gather(mistakes) for m in part])


def _worst(mistakes: list[Mistake]) -> list[Mistake]:
    return sorted(mistakes, key=lambda m: (-m.loss, m.tokens))[:MISTAKES]
