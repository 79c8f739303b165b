"""Any number of labels a text: figures against a library's, rows that only fill up, the way from a
file to predictions."""

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
from pipeline.models.settings import ModelSettings
from pipeline.runtime.precision import Precision
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch, collate
from pipeline.stream.rows import Ragged, Rows
from pipeline.tasks.multilabel import MultiLabel
from pipeline.tasks.settings import TaskSettings
from tests.helpers.corpora import SMALL
from tests.helpers.processes import run
from tests.helpers.task_data import Data

LABELS = ["fun", "sad", "war", "never"]


class Fixed(nn.Module):
    """A model whose scores are given."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        return self.scores[tokens[:, 0]]


def task() -> MultiLabel:
    return MultiLabel(TaskSettings(), ModelSettings(), Data({"tokenizer": 50}, {"labels": LABELS}))


@pytest.fixture
def case() -> tuple[Fixed, Batch, np.ndarray, np.ndarray]:
    """Forty rows of three labels in any number, the last ten without weight."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 4, generator=draw)
    scores[:, 3] = -9  # neither true nor predicted
    true = torch.rand(40, 4, generator=draw) < 0.4
    true[:, 3] = False
    ids = torch.where(true, torch.arange(1, 5), 0).sort(1, descending=True).values  # 0 fills up
    columns = {"tokens": torch.arange(40)[:, None].expand(40, 5), "labels": ids}
    weights = (torch.arange(40) < 30).float()
    batch = Batch(columns, torch.full((40,), 3), weights, torch.zeros(40, dtype=torch.int64))
    return Fixed(scores), batch, scores[:30].numpy(), true[:30].numpy()


def test_the_figures_are_a_librarys(case) -> None:
    model, batch, scores, true = case
    tally, mistakes = task().evaluate(task().outputs(model, batch), batch)
    found = task().evaluation(tally).metrics
    said = scores > 0
    probability = 1 / (1 + np.exp(-scores.astype(float)))
    loss = sum(log_loss(true[:, k], probability[:, k], labels=[False, True]) for k in range(4))
    assert found == pytest.approx(
        {
            "examples": 30,
            "loss": loss,
            "accuracy": accuracy_score(true, said),
            "micro_f1": f1_score(true, said, average="micro"),
            "macro_f1": f1_score(true[:, :3], said[:, :3], average="macro"),
        },
        rel=1e-6,
    )
    assert len(mistakes) == round(30 * (1 - found["accuracy"]))
    sums = task().loss(model, batch)
    assert task().metrics(sums.tolist()) == pytest.approx(
        {"loss": loss, "accuracy": found["accuracy"]}, rel=1e-5
    )


def test_tallies_of_parts_add_up(case) -> None:
    model, batch, *_ = case
    outputs = task().outputs(model, batch)
    whole, _ = task().evaluate(outputs, batch)
    parts = []
    for own in (slice(0, 13), slice(13, 40)):
        columns = {name: column[own] for name, column in batch.columns.items()}
        part = Batch(columns, batch.lengths[own], batch.weights[own], batch.keys[own])
        parts.append(task().evaluate(outputs[own], part)[0])
    assert torch.allclose(sum(parts), whole)


def test_labels_are_learnt_evaluated_and_predicted(tmp_path: Path) -> None:
    """Each label has a word that gives it away; a row has none, one or both of them."""
    draw = random.Random(0)
    with (tmp_path / "rows.jsonl").open("w") as file:
        for number in range(600):
            labels = [label for label in ("fun", "war") if draw.random() < 0.4]
            words = ["the", "plot", *(f"{label}ny" for label in labels), f"n{number}"]
            draw.shuffle(words)
            file.write(json.dumps({"text": " ".join(words), "label": labels}) + "\n")
    status, _, err = run(
        *SMALL, "task.name=multilabel", f"corpus.input={tmp_path}/rows.jsonl",
        f"corpus.shards={tmp_path}/shards", f"run.dir={tmp_path}/run", "train.epochs=12",
        "stream.token_budget=192",
        "train.lr=0.02", "model.dropout=0", "model.embedding_dropout=0", "train.ema_decay=0",
    )  # fmt: skip
    assert status == 0, err
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["best"] > 0.98
    from pipeline.inference.predictor import Predictor
    from pipeline.run.folder import RunFolder

    folder = tmp_path / "run"
    predictor = Predictor(folder, RunFolder(folder).read_config(), print)
    texts = ["the plot", "funny plot", "warny the funny"]
    found = predictor.predict(texts)
    assert [each["labels"] for each in found] == [[], ["fun"], ["fun", "war"]]
    metrics, skips = predictor.evaluate(f"{tmp_path}/rows.jsonl")
    assert metrics["examples"] == 600
    assert metrics["micro_f1"] > 0.98
    assert not skips


@pytest.mark.parametrize("size", [2, 60])
def test_a_text_in_several_rows_counts_once_with_its_labels(case, size: int) -> None:
    """Whichever batches its rows fall into, whose longest lists of labels are as long or not."""
    model, batch, _, true = case
    places = np.repeat(np.arange(30), 2)
    labels = [np.flatnonzero(true[place]) + 1 for place in places]
    columns = {
        "tokens": Ragged.of(np.repeat(places, 3), np.full(60, 3)),
        "labels": Ragged.of(np.concatenate(labels), np.array(list(map(len, labels)))),
        "document": places,
        "segment": np.tile([0, 1], 30),
        "segments": np.full(60, 2),
    }
    order = np.random.default_rng(0).permutation(60)
    rows = Rows.of(columns, 60).take(order, np.zeros_like(order))
    starts = range(0, 60, size)
    batches = [collate(rows, slice(a, min(a + size, 60)), size=size, length=3) for a in starts]
    assert (len({part.columns["labels"].shape for part in batches}) > 1) == (size == 2)
    alone = World(0, 1, torch.device("cpu"))
    parts = document_outputs(task(), model, batches, Precision("fp32", alone.device), alone)
    found, mistakes = evaluate(task(), parts, alone)
    tally, expected = task().evaluate(task().outputs(model, batch), batch)
    assert found.metrics == pytest.approx(task().evaluation(tally).metrics)
    assert len(mistakes) == len(expected)
