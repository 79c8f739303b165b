"""Multi-label classification: metrics against scikit-learn, padding rows, a run from a file to
predictions."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score, log_loss
from torch import Tensor, nn

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.segment_merging import document_outputs
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch, collate
from pipeline.stream.rows import Columns, Ragged, Rows
from pipeline.tasks.base.calibration import Calibration
from pipeline.tasks.multilabel import MultiLabel
from tests.helpers.corpora import SMALL
from tests.helpers.processes import call
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

LABELS = ["fun", "sad", "war", "never"]


class FixedLogits(nn.Module):
    """A model with given logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        return self.logits[tokens[:, 0]]


ROWS, REAL_ROWS = 40, 30
"""Rows of a batch, and those of them that are not padding."""


def make_task() -> MultiLabel:
    return MultiLabel(
        task_settings(), model_settings(), Data({"tokenizer": 50}, {"labels": LABELS})
    )


@pytest.fixture
def case() -> tuple[FixedLogits, Batch, np.ndarray, np.ndarray]:
    """Return a model, a batch of ROWS rows with padding at its end, and the real rows' logits and
    labels [REAL_ROWS, 4]."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, 4, generator=draw)
    logits[:, 3] = -9  # neither true nor predicted
    true = torch.rand(ROWS, 4, generator=draw) < 0.4
    true[:, 3] = False
    ids = torch.where(true, torch.arange(1, 5), 0).sort(1, descending=True).values  # 0 is padding
    columns = {"tokens": torch.arange(ROWS)[:, None].expand(ROWS, 5), "labels": ids}
    weights = (torch.arange(ROWS) < REAL_ROWS).float()
    batch = Batch(columns, torch.full((ROWS,), 3), weights, torch.zeros(ROWS, dtype=torch.int64))
    return FixedLogits(logits), batch, logits[:REAL_ROWS].numpy(), true[:REAL_ROWS].numpy()


def test_metrics_match_scikit_learn(case) -> None:
    model, batch, logits, true = case
    counts, mistakes = make_task().evaluate(make_task().outputs(model, batch), batch)
    metrics = make_task().summarize(counts).metrics
    predicted = logits > 0
    probability = 1 / (1 + np.exp(-logits.astype(float)))
    loss = sum(log_loss(true[:, k], probability[:, k], labels=[False, True]) for k in range(4))
    assert metrics == pytest.approx(
        {
            "examples": REAL_ROWS,
            "loss": loss,
            "accuracy": accuracy_score(true, predicted),
            "micro_f1": f1_score(true, predicted, average="micro"),
            "macro_f1": f1_score(true[:, :3], predicted[:, :3], average="macro"),
        },
        rel=1e-6,
    )
    assert len(mistakes) == round(REAL_ROWS * (1 - metrics["accuracy"]))
    sums = make_task().loss(model, batch)
    assert make_task().metrics(sums.tolist()) == pytest.approx(
        {"loss": loss, "accuracy": metrics["accuracy"]}, rel=1e-5
    )


def test_thresholds_choose_the_predicted_labels(case) -> None:
    model, batch, logits, true = case
    task = make_task()
    task.calibration = Calibration(threshold=0.3, label_thresholds={"sad": 0.7, "never": 0.0001})
    outputs = task.outputs(model, batch)
    counts, mistakes = task.evaluate(outputs, batch)
    metrics = task.summarize(counts).metrics
    probability = 1 / (1 + np.exp(-logits.astype(float)))
    predicted = probability >= np.array([0.3, 0.7, 0.3, 0.0001])
    assert predicted[:, 3].all()
    assert metrics["micro_f1"] == pytest.approx(f1_score(true, predicted, average="micro"))
    assert metrics["macro_f1"] == pytest.approx(
        f1_score(true, predicted, average="macro", zero_division=0.0)
    )
    assert metrics["accuracy"] == pytest.approx(accuracy_score(true, predicted))
    assert len(mistakes) == round(REAL_ROWS * (1 - metrics["accuracy"]))
    plain = make_task().predict(outputs[:REAL_ROWS], [{}] * REAL_ROWS)
    for found, before, row in zip(
        task.predict(outputs[:REAL_ROWS], [{}] * REAL_ROWS), plain, predicted, strict=True
    ):
        assert found["labels"] == [name for name, flag in zip(LABELS, row, strict=True) if flag]
        assert found["scores"] == before["scores"]
    scores, _ = task.scored(outputs, batch)
    assert ((scores >= 0.5)[:REAL_ROWS].numpy() == predicted).all()


def test_the_baseline_guesses_the_most_frequent_label_alone(case) -> None:
    model, batch, _, true = case
    counts, _ = make_task().evaluate(make_task().outputs(model, batch), batch)
    baseline = make_task().summarize(counts).baseline
    largest = int(true.sum(0).argmax())
    guess = np.zeros_like(true)
    guess[:, largest] = True
    assert baseline is not None
    assert (baseline.metric, baseline.guess) == ("micro_f1", f"{LABELS[largest]!r} alone")
    assert baseline.value == pytest.approx(f1_score(true, guess, average="micro"))


def test_unknown_labels_are_missed(case) -> None:
    """Every third row has one or two labels that the dataset lacks, of three different ones."""
    model, batch, logits, true = case
    more = torch.zeros(ROWS, 2, dtype=torch.int64)
    more[::3, 0] = 5 + torch.arange(ROWS)[::3] % 3
    more[::6, 1] = 5 + (torch.arange(ROWS)[::6] + 1) % 3
    batch.columns["labels"] = torch.cat([batch.columns["labels"], more], 1)
    task = make_task()
    task.unknown_names = {"labels": ["x", "y", "z"]}
    outputs = task.outputs(model, batch)
    counts, mistakes = task.evaluate(outputs, batch)
    metrics = task.summarize(counts).metrics
    hot = np.zeros((REAL_ROWS, 7), bool)
    hot[:, :4] = true
    for column in range(2):
        for row, label in enumerate(more[:REAL_ROWS, column].tolist()):
            hot[row, label - 1] |= label > 0
    predicted = np.pad(logits > 0, ((0, 0), (0, 3)))
    known = np.arange(REAL_ROWS) % 3 > 0
    assert metrics["accuracy"] == pytest.approx(accuracy_score(hot, predicted))
    assert metrics["micro_f1"] == pytest.approx(f1_score(hot, predicted, average="micro"))
    one_more = np.column_stack([hot[:, :3], ~known])
    wide = np.pad(predicted[:, :3], ((0, 0), (0, 1)))
    assert metrics["macro_f1"] == pytest.approx(f1_score(one_more, wide, average="macro"))
    probability = 1 / (1 + np.exp(-logits[known].astype(float)))
    loss = sum(log_loss(true[known, k], probability[:, k], labels=[False, True]) for k in range(4))
    assert metrics["loss"] == pytest.approx(loss, rel=1e-6)
    assert mistakes[0].details["labels"].split(", ")[-2:] == ["x", "y"]
    predictions, targets = task.scored(outputs, batch)
    assert (predictions.shape[1], targets.shape[1]) == (4, 5)
    assert targets[:REAL_ROWS, 4].bool().tolist() == (~known).tolist()


def test_counts_of_partial_batches_add_up(case) -> None:
    model, batch, *_ = case
    outputs = make_task().outputs(model, batch)
    whole, _ = make_task().evaluate(outputs, batch)
    parts = []
    for rows in (slice(0, 13), slice(13, ROWS)):
        columns = {name: column[rows] for name, column in batch.columns.items()}
        part = Batch(columns, batch.lengths[rows], batch.weights[rows], batch.keys[rows])
        parts.append(make_task().evaluate(outputs[rows], part)[0])
    assert torch.allclose(torch.stack(parts).sum(0), whole)


def test_a_run_learns_evaluates_and_predicts_labels(tmp_path: Path) -> None:
    """A row has none, one or both of two labels, and for each label a word that implies it."""
    draw = random.Random(0)
    with (tmp_path / "rows.jsonl").open("w") as file:
        for number in range(600):
            labels = [label for label in ("fun", "war") if draw.random() < 0.4]
            words = ["the", "plot", *(f"{label}ny" for label in labels), f"n{number}"]
            draw.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "label": labels}) + "\n")
    status, _, err = call(
        "train",
        *SMALL, "task.name=multilabel", f"corpus.input={tmp_path}/rows.jsonl",
        f"corpus.shards={tmp_path}/shards", f"run.dir={tmp_path}/run", "train.epochs=12",
        "stream.token_budget=192",
        "train.lr=0.02", "model.dropout=0", "model.embedding_dropout=0", "train.ema_decay=0",
    )  # fmt: skip
    assert status == 0, err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best"] > 0.98
    from pipeline.inference.evaluator import evaluate_files
    from pipeline.inference.model import load

    folder = tmp_path / "run"
    predictor = load(folder)
    texts = ["the plot", "funny plot", "warny the funny"]
    predictions = predictor.predict(texts)
    assert [prediction["labels"] for prediction in predictions] == [[], ["fun"], ["fun", "war"]]
    metrics, skips = evaluate_files(predictor.trained, f"{tmp_path}/rows.jsonl")
    assert metrics["examples"] == 600
    assert metrics["micro_f1"] > 0.98
    assert not skips


@pytest.mark.parametrize("size", [2, 60])
def test_a_document_split_into_rows_is_evaluated_once(case, size: int) -> None:
    """Its rows may be in different batches, whose labels may be padded to different lengths."""
    model, batch, _, true = case
    documents = np.repeat(np.arange(REAL_ROWS), 2)
    labels = [np.flatnonzero(true[document]) + 1 for document in documents]
    columns: Columns = {
        "tokens": Ragged.of(np.repeat(documents, 3), np.full(60, 3)),
        "labels": Ragged.of(np.concatenate(labels), np.array(list(map(len, labels)))),
        "document": documents,
        "segment": np.tile([0, 1], REAL_ROWS),
        "segments": np.full(60, 2),
    }
    order = np.random.default_rng(0).permutation(60)
    rows = Rows.of(columns, 60).take(order, np.zeros_like(order))
    starts = range(0, 60, size)
    batches = [collate(rows, slice(a, min(a + size, 60)), size=size, length=3) for a in starts]
    assert (len({part.columns["labels"].shape for part in batches}) > 1) == (size == 2)
    world = World(0, 1, torch.device("cpu"))
    parts = document_outputs(make_task(), model, batches, Precision("fp32", world.device), world)
    evaluation, mistakes = evaluate(make_task(), parts, world)
    counts, expected = make_task().evaluate(make_task().outputs(model, batch), batch)
    assert evaluation.metrics == pytest.approx(make_task().summarize(counts).metrics)
    assert len(mistakes) == len(expected)
