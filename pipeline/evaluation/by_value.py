"""Evaluation of documents by the values of a column."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from pipeline.evaluation.accumulator import HOST, Accumulator
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.base.metric import Metric
from pipeline.tasks.base.task import Evaluation, Task

ValuedDocuments = Iterable[tuple[Tensor, Batch, Sequence[str]]]
"""Task outputs, batches, and the value of each row; the values of padding rows are ignored."""


def evaluate_by_value(
    task: Task, documents: ValuedDocuments, world: World, metrics: Sequence[Metric] = ()
) -> tuple[Evaluation, dict[str, Evaluation]]:
    """Compute the metrics over all documents, and over the documents with each value.

    The values are sorted by number of documents, highest first. Collective: every rank must call
    it. Raises TrainingError if there are no documents.
    """
    overall, by_value = Accumulator(task, metrics), dict[str, Accumulator]()
    for outputs, batch, values in documents:
        outputs, batch = outputs.to(HOST), batch.to(HOST)
        overall.add(outputs, batch)
        rows: dict[str, list[int]] = {}
        for row in (batch.weights > 0).nonzero()[:, 0].tolist():
            rows.setdefault(values[row], []).append(row)
        for value, own in rows.items():
            index = torch.tensor(own)
            accumulator = by_value.setdefault(value, Accumulator(task, metrics))
            accumulator.add(outputs[index], batch.select(index))
    found = {value: accumulator.evaluation(world) for value, accumulator in by_value.items()}
    ordered = sorted(found.items(), key=lambda item: (-item[1].metrics["examples"], item[0]))
    return overall.evaluation(world), dict(ordered)
