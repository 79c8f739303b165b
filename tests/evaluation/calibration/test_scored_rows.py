"""Rows for calibration: the same ones in the same order for any batches and number of ranks."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from pipeline.errors import TrainingError
from pipeline.evaluation.calibration.scored_rows import RowCollector, ScoredRows
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import MultiLabel
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

WORLD = World(0, 1, torch.device("cpu"))


def task_of(labels: int) -> Classification:
    names = [str(n) for n in range(labels)]
    return Classification(
        task_settings(), model_settings(), Data({"tokenizer": 9}, {"label": names})
    )


def batch_of(documents: Tensor, label: Tensor, weights: Tensor | None = None) -> Batch:
    ones = torch.ones(len(documents))
    return Batch(
        {"label": label, "tokens": documents[:, None], "document": documents},
        ones.long(), ones if weights is None else weights, documents,
    )  # fmt: skip


def collect(parts: list[tuple[Tensor, Batch]], max_values: int, world: Any = WORLD) -> ScoredRows:
    collector = RowCollector(task_of(3), max_values)
    for outputs, batch in parts:
        collector.add(outputs, batch)
    return collector.rows(world)


def documents() -> tuple[Tensor, Batch]:
    draw = torch.Generator().manual_seed(0)
    outputs = torch.rand(90, 3, generator=draw, dtype=torch.float64)
    return outputs, batch_of(torch.arange(90), torch.arange(90) % 3)


def equal(first: ScoredRows, second: ScoredRows) -> bool:
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("scores", "targets", "hashes")
    )


@pytest.mark.parametrize("max_values", [10**6, 60])
def test_rows_do_not_depend_on_batches(max_values: int) -> None:
    """With at most 60 values, 20 of the 90 rows are a sample, the same one in any batches."""
    outputs, batch = documents()
    whole = collect([(outputs, batch)], max_values)
    assert len(whole) == min(90, max_values // 3)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(1))
    parts = [(outputs[rows], batch.select(rows)) for rows in order.split(7)]
    assert equal(collect(parts, max_values), whole)
    known = outputs.tolist()
    numbers = [known.index(scores) for scores in whole.scores.tolist()]
    assert [n % 3 for n in numbers] == whole.targets.tolist()
    assert numbers != sorted(numbers)


class Ranks:
    """A world of several ranks: `gather` returns the values that they gather at the same time."""

    def __init__(self, gathered: list[list[Any]]) -> None:
        self._gathered = iter(gathered)

    def gather(self, value: Any) -> list[Any]:
        return next(self._gathered)


@pytest.mark.parametrize("max_values", [10**6, 60])
def test_rows_of_all_ranks_are_those_of_one(max_values: int) -> None:
    outputs, batch = documents()
    shares = [torch.arange(0, 90, 2), torch.arange(1, 90, 2)]
    own = [collect([(outputs[rows], batch.select(rows))], max_values) for rows in shares]
    hashes = [part.hashes for part in own]
    last = torch.cat(hashes).sort().values[: max_values // 3][-1]
    parts = [part.select(part.hashes <= last) for part in own]
    sent = [(outputs[rows], batch.select(rows)) for rows in shares[:1]]
    world = Ranks([hashes, parts])
    assert equal(collect(sent, max_values, world), collect([(outputs, batch)], max_values))


def test_padding_and_unknown_labels_are_left_out() -> None:
    outputs, batch = documents()
    label = batch.columns["label"].clone()
    label[5] = 3
    weights = torch.ones(90)
    weights[80:] = 0
    batch = replace(batch, columns={**batch.columns, "label": label}, weights=weights)
    assert len(collect([(outputs, batch)], 10**6)) == 79
    with pytest.raises(TrainingError, match="no readable row"):
        collect([], 10**6)


def test_several_labels_become_flags() -> None:
    names = ["x", "y", "z"]
    task = MultiLabel(task_settings(), model_settings(), Data({"tokenizer": 9}, {"labels": names}))
    collector = RowCollector(task)
    outputs, batch = documents()
    labels = torch.stack([1 + torch.arange(90) % 3, torch.zeros(90, dtype=torch.int64)], 1)
    labels[4, 1] = 4  # unknown
    collector.add(outputs, replace(batch, columns={**batch.columns, "labels": labels}))
    rows = collector.rows(WORLD)
    assert len(rows) == 89
    assert rows.targets.sum(0).tolist() == [30, 29, 30]
