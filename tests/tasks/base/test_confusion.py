"""Counts of labels: exact for each label, and a confusion matrix of bounded size."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score

from pipeline.stream.batch import Batch
from pipeline.tasks.base.confusion import MAX_SHOWN, Confusion, confused_pairs
from pipeline.tasks.classification import Classification
from pipeline.tasks.multilabel import MultiLabel
from pipeline.tasks.tagging import Tagging
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data


def pairs(labels: int, rows: int = 3000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return true and predicted labels and weights."""
    draw = torch.Generator().manual_seed(labels)
    true = torch.randint(0, labels, (rows,), generator=draw)
    wrong = torch.randint(0, labels, (rows,), generator=draw)
    predicted = torch.where(torch.rand(rows, generator=draw) < 0.6, true, wrong)
    return true, predicted, (torch.rand(rows, generator=draw) < 0.9).float()


@pytest.mark.parametrize("labels", [2, 7, MAX_SHOWN])
def test_few_labels_are_all_in_the_matrix(labels: int) -> None:
    true, predicted, weights = pairs(labels)
    confusion = Confusion([f"c{n}" for n in range(labels)])
    counts = confusion.unpack(confusion.sums(true, predicted, weights))
    expected = confusion_matrix(true, predicted, sample_weight=weights, labels=range(labels))
    assert np.array_equal(counts.table, expected)
    assert np.array_equal(counts.true, expected.sum(1))
    assert np.array_equal(counts.predicted, expected.sum(0))
    assert np.array_equal(counts.correct, expected.diagonal())
    assert (confusion.left_out, len(confusion.labels)) == (0, labels)


def test_of_many_labels_the_most_frequent_ones_are_in_the_matrix() -> None:
    true, predicted, weights = pairs(80)
    rows = torch.bincount(true, minlength=80).tolist()
    confusion = Confusion([f"c{n}" for n in range(80)], rows)
    counts = confusion.unpack(confusion.sums(true, predicted, weights))
    whole = confusion_matrix(true, predicted, sample_weight=weights, labels=range(80))
    shown = sorted(sorted(range(80), key=lambda n: -rows[n])[:MAX_SHOWN])
    assert confusion.labels == [*(f"c{n}" for n in shown), "30 others"]
    assert np.array_equal(counts.table[:-1, :-1], whole[np.ix_(shown, shown)])
    assert np.array_equal(counts.table.sum(1)[:-1], whole.sum(1)[shown])
    assert counts.table.sum() == whole.sum()
    assert np.array_equal(counts.correct, whole.diagonal())


def test_the_first_labels_are_shown_if_their_rows_are_unknown() -> None:
    confusion = Confusion([f"c{n}" for n in range(MAX_SHOWN + 1)])
    assert confusion.labels == [*(f"c{n}" for n in range(MAX_SHOWN)), "1 others"]


def data(labels: int, **names: Any) -> Data:
    values = [f"c{n}" for n in range(labels)]
    return Data({"tokenizer": 50}, dict.fromkeys(("label", "labels", "tags"), values))


def batch(columns: dict[str, torch.Tensor], rows: int) -> Batch:
    ones = torch.ones(rows, dtype=torch.int64)
    return Batch({"tokens": ones[:, None], **columns}, ones, ones.float(), ones)


def test_classification_of_100000_labels() -> None:
    """The sums of an evaluation take megabytes; they took 80 GB as a whole confusion matrix."""
    count, rows = 100_000, 6
    task = Classification(task_settings(), model_settings(), data(count))
    label = torch.tensor([0, 1, 70_000, 99_999, 5, 5])
    outputs = torch.zeros(rows, count, dtype=torch.float64)
    predicted = [0, 1, 70_000, 3, 5, 80_000]
    outputs[range(rows), predicted] = 1
    sums, mistakes = task.evaluate(outputs, batch({"label": label}, rows))
    evaluation = task.summarize(sums)
    assert evaluation.metrics["accuracy"] == pytest.approx(4 / 6)
    macro_f1 = f1_score(label, predicted, average="macro")
    assert evaluation.metrics["macro_f1"] == pytest.approx(macro_f1)
    assert len(evaluation.confusion) == len(evaluation.labels) == MAX_SHOWN + 1
    assert evaluation.left_out == count - MAX_SHOWN
    assert [m.details["label"] for m in mistakes] == ["c99999", "c5"]


def test_predictions_show_the_most_probable_labels() -> None:
    count = 9000
    outputs = torch.rand(1, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for task in (Classification, MultiLabel):
        (prediction,) = task(task_settings(), model_settings(), data(count)).predict(outputs, [{}])
        scores = prediction["scores"]
        best = outputs[0].topk(MAX_SHOWN)
        assert list(scores) == [f"c{n}" for n in best.indices.tolist()]
        assert list(scores.values()) == pytest.approx(best.values.tolist(), abs=1e-6)
        assert prediction["scores_left_out"] == count - MAX_SHOWN
    classified = Classification(task_settings(), model_settings(), data(count)).predict(
        outputs, [{}]
    )
    assert len(json.dumps(classified)) < 2000


def test_tagging_counts_the_words_of_many_tags() -> None:
    task = Tagging(task_settings(), model_settings(), data(200))
    tags = torch.tensor([[0, 1, 150], [199, 0, 0]])
    predicted = torch.tensor([[0, 1, 151], [199, 0, 0]])
    outputs = torch.stack([(predicted + 1).double(), torch.zeros(2, 3).double()], -1)
    columns = {"tags": tags, "characters": torch.full((2, 3, 2), 97)}
    lengths = torch.tensor([3, 1])
    words = Batch(columns, lengths, torch.ones(2), torch.ones(2, dtype=torch.int64))
    sums, mistakes = task.evaluate(outputs, words)
    evaluation = task.summarize(sums)
    assert evaluation.metrics["accuracy"] == 3 / 4
    assert (len(mistakes), evaluation.left_out) == (1, 150)
    assert np.array(evaluation.confusion).sum() == 4
    padding = Batch(columns, lengths, torch.zeros(2), torch.ones(2, dtype=torch.int64))
    assert task.evaluate(outputs, padding)[0].sum() == 0


def test_the_most_frequent_confusions_come_first() -> None:
    table = [[9, 2, 7], [0, 5, 3], [7, 0, 1]]
    found = confused_pairs(table, ["a", "b", "c"])
    assert found == [("a", "c", 7), ("c", "a", 7), ("b", "c", 3)]
    assert confused_pairs(table, ["a", "b", "c"], most=1) == [("a", "c", 7)]
    others = confused_pairs(table, ["a", "b", "9 others"], left_out=9)
    assert others == [("a", "b", 2)], "the others are no label"
    assert not confused_pairs([[3, 0], [0, 4]], ["a", "b"])
    assert not confused_pairs([], [])


def test_the_largest_label_is_that_of_the_dataset_if_known() -> None:
    true = torch.tensor([5.0, 1.0])
    assert Confusion(["a", "b"]).largest(true) == 0
    assert Confusion(["a", "b"], [10, 20]).largest(true) == 1
