"""Confidence intervals of metrics by the bootstrap."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from pipeline.evaluation.bootstrap import Bootstrap, Intervals
from pipeline.evaluation.evaluate import evaluate
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.classification import Classification
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

SINGLE = World(0, 1, torch.device("cpu"))
DOCUMENTS = 400


def make_task() -> Classification:
    data = Data({"tokenizer": 9}, {"label": ["a", "b", "c"]})
    return Classification(task_settings(metrics=["auroc"]), model_settings(), data)


def documents(share_correct: float = 0.8) -> tuple[Tensor, Batch]:
    """Return task outputs [D, 3] and the batch of all documents; some are predicted correctly."""
    draw = np.random.default_rng(0)
    label = draw.integers(0, 3, DOCUMENTS)
    guess = np.where(np.arange(DOCUMENTS) < share_correct * DOCUMENTS, label, (label + 1) % 3)
    task = make_task()
    logits = torch.from_numpy(draw.normal(size=(DOCUMENTS, 3)) + 5.0 * np.eye(3)[guess]).float()
    columns = {"tokens": torch.ones(DOCUMENTS, 2).long(), "label": torch.from_numpy(label)}
    keys = torch.from_numpy(draw.integers(0, 2**63 - 1, DOCUMENTS))
    batch = Batch(columns, torch.full((DOCUMENTS,), 2), torch.ones(DOCUMENTS), keys)
    return task.outputs(lambda *_: logits, batch), batch  # type: ignore[arg-type]


def intervals(parts: list[Tensor], outputs: Tensor, batch: Batch) -> Intervals:
    task = make_task()
    metrics = task.make_metrics(task_settings(metrics=["auroc"]))
    bootstrap = Bootstrap(task, metrics)
    for rows in parts:
        bootstrap.add(outputs[rows], batch.select(rows))
    return bootstrap.intervals(SINGLE)


def test_an_interval_of_accuracy_is_that_of_the_binomial_distribution() -> None:
    found = intervals([torch.arange(DOCUMENTS)], *documents())
    exact = stats.binom(DOCUMENTS, 0.8).ppf([0.025, 0.975]) / DOCUMENTS
    assert found["accuracy"] == pytest.approx(exact, abs=0.006)
    assert found.keys() == {"loss", "accuracy", "macro_f1", "auroc"}
    assert all(low < high for low, high in found.values())


def test_intervals_do_not_depend_on_the_batches() -> None:
    outputs, batch = documents()
    whole = intervals([torch.arange(DOCUMENTS)], outputs, batch)
    order = torch.from_numpy(np.random.default_rng(1).permutation(DOCUMENTS))
    parts = intervals(list(order.split(7)), outputs, batch)
    for name, bounds in whole.items():
        assert parts[name] == pytest.approx(bounds, rel=1e-12), name


def test_padding_rows_do_not_count() -> None:
    outputs, batch = documents()
    weights = batch.weights.clone()
    weights[300:] = 0
    padded = intervals([torch.arange(DOCUMENTS)], outputs, replace(batch, weights=weights))
    assert padded == intervals([torch.arange(300)], outputs, batch)


def test_a_metric_without_spread_has_a_point_as_interval() -> None:
    found = intervals([torch.arange(DOCUMENTS)], *documents(share_correct=1.0))
    assert found["accuracy"] == (1.0, 1.0)


def test_a_metric_that_is_not_finite_has_no_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.evaluation.bootstrap.compute", lambda *_: math.nan)
    found = intervals([torch.arange(DOCUMENTS)], *documents())
    assert "auroc" not in found
    assert "accuracy" in found


def test_evaluations_have_intervals_on_request() -> None:
    outputs, batch = documents()
    task = make_task()
    without, _ = evaluate(task, [(outputs, batch)], SINGLE)
    with_intervals, _ = evaluate(task, [(outputs, batch)], SINGLE, intervals=True)
    assert not without.intervals
    low, high = with_intervals.intervals["accuracy"]
    assert low < with_intervals.metrics["accuracy"] == without.metrics["accuracy"] < high
