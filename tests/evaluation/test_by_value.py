"""Metrics over the documents of each value of a column."""

import pytest
import torch

from pipeline.evaluation.by_value import evaluate_by_value
from pipeline.evaluation.evaluate import evaluate
from tests.evaluation.test_bootstrap import DOCUMENTS, SINGLE, documents, make_task
from tests.helpers.settings import task_settings


def test_each_value_has_the_metrics_of_its_own_documents() -> None:
    outputs, batch = documents()
    values = ["mail" if row % 3 else "chat" if row % 2 else "" for row in range(DOCUMENTS)]
    task = make_task()
    metrics = task.make_metrics(task_settings(metrics=["auroc"]))
    indices = torch.arange(DOCUMENTS).split(33)
    parts = [
        (outputs[rows], batch.select(rows), [values[row] for row in rows.tolist()])
        for rows in indices
    ]
    everything, by_value = evaluate_by_value(task, parts, SINGLE, metrics)
    whole, _ = evaluate(task, [(outputs, batch)], SINGLE, metrics)
    assert everything.metrics == pytest.approx(whole.metrics, rel=1e-12)
    assert list(by_value) == ["mail", "", "chat"]  # most rows first, then by value
    for value, found in by_value.items():
        rows = torch.tensor([row for row in range(DOCUMENTS) if values[row] == value])
        own, _ = evaluate(task, [(outputs[rows], batch.select(rows))], SINGLE, metrics)
        assert found.metrics == pytest.approx(own.metrics, rel=1e-12)


def test_padding_rows_have_no_value() -> None:
    outputs, batch = documents()
    batch.weights[10:] = 0
    values = ["a"] * 10 + ["padding"] * (DOCUMENTS - 10)
    _, by_value = evaluate_by_value(make_task(), [(outputs, batch, values)], SINGLE)
    assert {value: found.metrics["examples"] for value, found in by_value.items()} == {"a": 10}
