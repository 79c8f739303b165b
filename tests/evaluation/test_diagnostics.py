"""Calibration and errors by length, against plain computations."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torch import Tensor

from pipeline.evaluation.diagnostics import Diagnostics
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.base.metric import LABEL, LABELS, NUMBER

SINGLE = World(0, 1, torch.device("cpu"))
ROWS = 300


def batch_of(rows: int = ROWS) -> Batch:
    draw = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 70, (rows,), generator=draw)
    weights = (torch.rand(rows, generator=draw) > 0.1).float()
    return Batch({}, lengths, weights, torch.arange(rows))


def run(batch: Batch, outputs: Tensor, parts: int = 3, **task: Any) -> tuple[Any, Any]:
    diagnostics = Diagnostics(SimpleNamespace(row_metric="", **task))  # type: ignore[arg-type]
    for rows in torch.arange(len(outputs)).chunk(parts):
        diagnostics.add(outputs[rows], batch.select(rows))
    return diagnostics.bins(SINGLE)


def means_by_length(batch: Batch, values: Tensor) -> dict[int, tuple[int, float]]:
    found = defaultdict(list)
    for length, weight, value in zip(batch.lengths, batch.weights, values, strict=True):
        if weight:
            found[int(np.log2(int(length)))].append(float(value))
    return {2**power: (len(found[power]), float(np.mean(found[power]))) for power in sorted(found)}


def check_lengths(bins: Any, expected: dict[int, tuple[int, float]]) -> None:
    assert [(b.low, b.count) for b in bins] == [(low, n) for low, (n, _) in expected.items()]
    assert [b.high for b in bins] == [2 * b.low - 1 for b in bins]
    assert [b.value for b in bins] == pytest.approx([mean for _, mean in expected.values()])


def test_one_label() -> None:
    batch, draw = batch_of(), torch.Generator().manual_seed(1)
    label = torch.randint(0, 4, (ROWS,), generator=draw)  # label 3 is unknown to the run
    outputs = (3 * torch.randn(ROWS, 3, generator=draw)).double().softmax(-1)
    columns = {"label": label, "outputs": outputs}
    batch = Batch(columns, batch.lengths, batch.weights, batch.keys)
    calibration, by_length = run(
        batch, outputs, predicts=LABEL, scored=lambda o, b: (o, b.columns["label"])
    )
    valid = batch.weights > 0
    confidence, predicted = outputs.max(-1)
    correct = predicted == label
    share, mean = calibration_curve(correct[valid], confidence[valid], n_bins=10)
    assert [b.accuracy for b in calibration] == pytest.approx(share)
    assert [b.confidence for b in calibration] == pytest.approx(mean)
    assert sum(b.count for b in calibration) == int(valid.sum())
    assert all(b.low <= b.confidence <= b.high for b in calibration)
    check_lengths(by_length, means_by_length(batch, correct))


def test_several_labels() -> None:
    batch, draw = batch_of(), torch.Generator().manual_seed(2)
    true = (torch.rand(ROWS, 3, generator=draw) > 0.6).double()
    true[::50, 2] = 1  # the last column: unknown labels
    outputs = torch.rand(ROWS, 2, generator=draw).double()
    batch = Batch({"true": true}, batch.lengths, batch.weights, batch.keys)
    calibration, by_length = run(
        batch, outputs, predicts=LABELS, scored=lambda o, b: (o, b.columns["true"])
    )
    valid = batch.weights > 0
    correct = (outputs >= 0.5) == (true[:, :2] > 0)
    confidence = torch.maximum(outputs, 1 - outputs)
    share, mean = calibration_curve(
        correct[valid].flatten(), confidence[valid].flatten(), n_bins=10
    )
    assert [b.accuracy for b in calibration] == pytest.approx(share)
    assert [b.confidence for b in calibration] == pytest.approx(mean)
    check_lengths(by_length, means_by_length(batch, correct.all(1) & (true[:, 2] == 0)))


def test_numbers_and_values_of_rows() -> None:
    batch = batch_of()
    numbers = torch.randn(ROWS, generator=torch.Generator().manual_seed(3)).double()
    calibration, by_length = run(
        batch, numbers, predicts=NUMBER, scored=lambda o, b: (o, torch.ones(len(o)).double())
    )
    assert calibration == []
    check_lengths(by_length, means_by_length(batch, (numbers - 1).abs()))
    diagnostics = Diagnostics(
        SimpleNamespace(predicts="", row_metric="loss", row_values=lambda o, b: 2 * o)  # type: ignore[arg-type]
    )
    diagnostics.add(numbers, batch)
    assert diagnostics.length_metric == "loss"
    check_lengths(diagnostics.bins(SINGLE)[1], means_by_length(batch, 2 * numbers))


def test_a_task_without_values_has_no_bins() -> None:
    assert run(batch_of(), torch.zeros(ROWS, 1), predicts="") == ([], [])


def test_probabilities_of_one_and_long_documents_are_in_the_last_bin() -> None:
    lengths = torch.tensor([65535, 1 << 20, 1])
    batch = Batch({}, lengths, torch.ones(3), torch.arange(3))
    outputs = torch.tensor([[1.0, 0.0]] * 3).double()
    calibration, by_length = run(
        batch, outputs, predicts=LABEL, scored=lambda o, b: (o, torch.zeros(len(o)))
    )
    assert [(b.low, b.high, b.count, b.accuracy) for b in calibration] == [(0.9, 1.0, 3, 1.0)]
    assert [(b.low, b.count) for b in by_length] == [(1, 1), (32768, 1), (65536, 1)]
