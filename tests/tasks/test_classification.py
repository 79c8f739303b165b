"""The figures of classification against a library's, and rows that only fill up."""

import math
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score, log_loss
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.stream.batch import Batch
from pipeline.tasks.classification import Classification
from pipeline.tasks.settings import TaskSettings
from tests.helpers.task_data import Data

LABELS = ["bad", "good", "mixed", "never"]


class Fixed(nn.Module):
    """A model whose scores are given."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        return self.scores[tokens[:, 0]]


@pytest.fixture
def case() -> tuple[Fixed, Batch, Tensor, Tensor]:
    """Forty rows of three labels, the last ten without weight."""
    draw = torch.Generator().manual_seed(0)
    scores = torch.randn(40, 4, generator=draw)
    scores[:, 3] = -9  # neither true nor predicted
    label = torch.randint(0, 3, (40,), generator=draw)
    tokens = torch.arange(40)[:, None].expand(40, 5)
    weights = (torch.arange(40) < 30).float()
    columns = {"tokens": tokens, "label": label}
    batch = Batch(columns, torch.full((40,), 3), weights, torch.zeros(40, dtype=torch.int64))
    return Fixed(scores), batch, scores[:30], label[:30]


def task(**settings: Any) -> Classification:
    from pipeline.models.settings import ModelSettings

    data = Data({"tokenizer": 50}, {"label": LABELS}, {"label": [10, 20, 5, 5]})
    return Classification(TaskSettings(**settings), ModelSettings(), data)


def test_the_figures_are_a_librarys(case: tuple[Fixed, Batch, Tensor, Tensor]) -> None:
    model, batch, scores, label = case
    tally, _ = task().evaluate(task().outputs(model, batch), batch)
    found = task().evaluation(tally).metrics
    guess = scores.argmax(-1)
    assert found["examples"] == 30
    assert found["accuracy"] == pytest.approx((guess == label).float().mean().item())
    assert found["macro_f1"] == pytest.approx(f1_score(label, guess, average="macro"))
    probability = scores.double().softmax(-1)
    assert found["loss"] == pytest.approx(log_loss(label, probability, labels=range(4)), rel=1e-5)


def test_an_impossible_label_costs_much_but_not_infinitely_much() -> None:
    outputs = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    columns = {"tokens": torch.ones(1, 1, dtype=torch.int64), "label": torch.tensor([1])}
    ones = torch.ones(1, dtype=torch.int64)
    tally, _ = task().evaluate(outputs, Batch(columns, ones, ones.float(), ones))
    assert 700 < task().evaluation(tally).metrics["loss"] < 710


def test_tallies_of_parts_add_up(case: tuple[Fixed, Batch, Tensor, Tensor]) -> None:
    model, batch, *_ = case
    whole, _ = task().evaluate(task().outputs(model, batch), batch)
    parts = []
    for rows in (slice(0, 7), slice(7, 40)):
        columns = {name: column[rows] for name, column in batch.columns.items()}
        part = Batch(columns, batch.lengths[rows], batch.weights[rows], batch.keys[rows])
        parts.append(task().evaluate(task().outputs(model, part), part)[0])
    assert torch.allclose(whole, parts[0] + parts[1])
    assert task().evaluation(whole).table == task().evaluation(parts[0] + parts[1]).table


def test_training_sums_leave_filling_rows_out(
    case: tuple[Fixed, Batch, Tensor, Tensor],
) -> None:
    model, batch, scores, label = case
    loss, weight, correct, rows = task().loss(model, batch)
    assert rows == weight == 30
    assert correct == (scores.argmax(-1) == label).sum()
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(scores, label).item() * 30)
    loss.backward()
    assert model.scores.grad is not None
    assert model.scores.grad[:30].abs().sum() > 0
    assert model.scores.grad[30:].abs().sum() == 0
    metrics = task().metrics([loss.item(), 30.0, correct.item(), 30.0])
    assert metrics["accuracy"] == correct.item() / 30


def test_mistakes_name_labels_and_carry_their_tokens(
    case: tuple[Fixed, Batch, Tensor, Tensor],
) -> None:
    model, batch, scores, label = case
    _, mistakes = task().evaluate(task().outputs(model, batch), batch)
    guess = scores.argmax(-1)
    wrong = torch.nonzero(guess != label).flatten().tolist()
    assert [m.tokens for m in mistakes] == [[row] * 3 for row in wrong]
    assert [m.shown["label"] for m in mistakes] == [LABELS[int(label[row])] for row in wrong]
    assert [m.shown["predicted"] for m in mistakes] == [LABELS[int(guess[row])] for row in wrong]


def test_predictions_are_probabilities_by_name(case: tuple[Fixed, Batch, Tensor, Tensor]) -> None:
    model, batch, scores, _ = case
    with torch.no_grad():
        predictions = task().predict(task().outputs(model, batch), [{}] * 40)
    assert len(predictions) == 40
    for row, prediction in zip(scores, predictions, strict=False):
        assert prediction["label"] == LABELS[int(row.argmax())]
        assert math.isclose(sum(prediction["scores"].values()), 1, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"good": 3.0, "never": 0.5}, [1, 3, 1, 0.5]),
        ("balanced", [1, 0.5, 2, 2]),  # all of a label together weigh as those of any other
    ],
    ids=str,
)
def test_class_weights_and_smoothing_are_torchs(
    case: tuple[Fixed, Batch, Tensor, Tensor], weights: Any, expected: list[float]
) -> None:
    model, batch, scores, label = case
    sums = task(class_weights=weights, label_smoothing=0.1).loss(model, batch).tolist()
    mean = nn.CrossEntropyLoss(torch.tensor(expected), label_smoothing=0.1)
    assert sums[0] / sums[1] == pytest.approx(mean(scores, label).item(), rel=1e-6)
    assert sums[3] == 30


def test_a_weight_for_a_label_that_there_is_not_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no label 'god', it has bad, good, mixed, never"):
        task(class_weights={"god": 2.0})
