"""Row weights in the loss: a row of weight 2 counts as two rows, one of weight 0 as none."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from pipeline.corpus.field_spec import WEIGHT
from pipeline.stream.batch import Batch
from pipeline.tasks.base.task import Task
from tests.tasks import test_translation

WEIGHTS = torch.tensor([2.0, 0.5, 0.0, 1.0])


def test_weights_of_the_corpus_multiply_those_of_the_rows() -> None:
    batch = test_translation.make_batch()
    assert batch.weighted() is batch
    weighted = replace(batch, columns={**batch.columns, WEIGHT: WEIGHTS}).weighted()
    assert weighted.weights.tolist() == [2, 0.5, 0, 0]  # the last row is padding


def _gradient(task: Task, model: nn.Module, batch: Batch) -> tuple[torch.Tensor, list[float]]:
    model.zero_grad()
    sums = task.loss(model, task.prepare_batch(batch))
    sums[0].backward()
    parts = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    return torch.cat(parts), sums.tolist()


def test_translation_weights_tokens_by_their_rows() -> None:
    task, batch = test_translation.make_task(), test_translation.make_batch()
    model = test_translation.make_model(task)
    weighted = replace(batch, columns={**batch.columns, WEIGHT: WEIGHTS}).weighted()
    found, sums = _gradient(task, model, weighted)
    rows = [_gradient(task, model, test_translation.make_batch([row])) for row in range(3)]
    expected = sum(w * gradient for w, (gradient, _) in zip(WEIGHTS.tolist(), rows, strict=False))
    assert torch.allclose(found, expected, atol=1e-5)
    loss, tokens, *_ = sums
    assert tokens == 2 * 4 + 0.5 * 1
    assert loss == pytest.approx(2 * rows[0][1][0] + 0.5 * rows[1][1][0], rel=1e-5)
    same = replace(batch, columns={**batch.columns, WEIGHT: torch.ones(4)}).weighted()
    assert task.loss(model, same).tolist() == pytest.approx(task.loss(model, batch).tolist())
