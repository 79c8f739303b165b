"""Text classification: metrics against scikit-learn, padding rows, class weights."""

import math
from typing import Any

import pytest
import torch
from sklearn.metrics import f1_score, log_loss
from torch import Tensor, nn

from pipeline.errors import ConfigError
from pipeline.stream.batch import Batch
from pipeline.tasks.base.calibration import Calibration
from pipeline.tasks.classification import Classification
from tests.helpers.settings import model_settings, task_settings
from tests.helpers.task_data import Data

LABELS = ["bad", "good", "mixed", "never"]


class FixedLogits(nn.Module):
    """A model with given logits."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        return self.logits[tokens[:, 0]]


ROWS, REAL_ROWS = 40, 30
"""Rows of a batch, and those of them that are not padding."""
Case = tuple[FixedLogits, Batch, Tensor, Tensor]


@pytest.fixture
def case() -> Case:
    """Return a model, a batch of ROWS rows with padding at its end, and the real rows' logits and
    labels."""
    draw = torch.Generator().manual_seed(0)
    logits = torch.randn(ROWS, 4, generator=draw)
    logits[:, 3] = -9  # neither true nor predicted
    label = torch.randint(0, 3, (ROWS,), generator=draw)
    tokens = torch.arange(ROWS)[:, None].expand(ROWS, 5)
    weights = (torch.arange(ROWS) < REAL_ROWS).float()
    columns = {"tokens": tokens, "label": label}
    batch = Batch(columns, torch.full((ROWS,), 3), weights, torch.zeros(ROWS, dtype=torch.int64))
    return FixedLogits(logits), batch, logits[:REAL_ROWS], label[:REAL_ROWS]


def make_task(**settings: Any) -> Classification:

    data = Data({"tokenizer": 50}, {"label": LABELS}, {"label": [10, 20, 5, 5]})
    return Classification(task_settings(**settings), model_settings(), data)


def test_metrics_match_scikit_learn(case: Case) -> None:
    model, batch, logits, label = case
    counts, _ = make_task().evaluate(make_task().outputs(model, batch), batch)
    metrics = make_task().summarize(counts).metrics
    predicted = logits.argmax(-1)
    assert metrics["examples"] == REAL_ROWS
    assert metrics["accuracy"] == pytest.approx((predicted == label).float().mean().item())
    assert metrics["macro_f1"] == pytest.approx(f1_score(label, predicted, average="macro"))
    probability = logits.double().softmax(-1)
    assert metrics["loss"] == pytest.approx(log_loss(label, probability, labels=range(4)), rel=1e-5)


def test_the_baseline_always_guesses_the_largest_label_of_the_dataset(case: Case) -> None:
    model, batch, _, label = case
    counts, _ = make_task().evaluate(make_task().outputs(model, batch), batch)
    baseline = make_task().summarize(counts).baseline
    assert baseline is not None
    expected = (label == 1).double().mean().item()  # label 1 has 20 rows in the dataset
    assert (baseline.metric, baseline.guess) == ("accuracy", repr(LABELS[1]))
    assert baseline.value == pytest.approx(expected)


def test_a_true_label_with_probability_zero_has_a_finite_loss() -> None:
    outputs = torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64)
    columns = {"tokens": torch.ones(1, 1, dtype=torch.int64), "label": torch.tensor([1])}
    ones = torch.ones(1, dtype=torch.int64)
    counts, _ = make_task().evaluate(outputs, Batch(columns, ones, ones.float(), ones))
    assert 700 < make_task().summarize(counts).metrics["loss"] < 710


def test_counts_of_partial_batches_add_up(case: Case) -> None:
    model, batch, *_ = case
    whole, _ = make_task().evaluate(make_task().outputs(model, batch), batch)
    parts = []
    for rows in (slice(0, 7), slice(7, ROWS)):
        columns = {name: column[rows] for name, column in batch.columns.items()}
        part = Batch(columns, batch.lengths[rows], batch.weights[rows], batch.keys[rows])
        parts.append(make_task().evaluate(make_task().outputs(model, part), part)[0])
    assert torch.allclose(whole, parts[0] + parts[1])
    summed = make_task().summarize(parts[0] + parts[1])
    assert make_task().summarize(whole).confusion == summed.confusion


def test_training_sums_exclude_padding_rows(
    case: Case,
) -> None:
    model, batch, logits, label = case
    loss, weight, correct, rows = make_task().loss(model, batch)
    assert rows == weight == REAL_ROWS
    assert correct == (logits.argmax(-1) == label).sum()
    assert loss.item() == pytest.approx(
        nn.functional.cross_entropy(logits, label).item() * REAL_ROWS
    )
    loss.backward()
    assert model.logits.grad is not None
    assert model.logits.grad[:REAL_ROWS].abs().sum() > 0
    assert model.logits.grad[REAL_ROWS:].abs().sum() == 0
    metrics = make_task().metrics([loss.item(), float(REAL_ROWS), correct.item(), float(REAL_ROWS)])
    assert metrics["accuracy"] == correct.item() / REAL_ROWS


def test_mistakes_have_label_names_and_tokens(
    case: Case,
) -> None:
    model, batch, logits, label = case
    _, mistakes = make_task().evaluate(make_task().outputs(model, batch), batch)
    predicted = logits.argmax(-1)
    wrong = torch.nonzero(predicted != label).flatten().tolist()
    assert [m.tokens for m in mistakes] == [[row] * 3 for row in wrong]
    assert [m.details["label"] for m in mistakes] == [LABELS[int(label[row])] for row in wrong]
    names = [LABELS[int(predicted[row])] for row in wrong]
    assert [m.details["predicted"] for m in mistakes] == names


def test_predictions_have_a_probability_per_label_name(case: Case) -> None:
    model, batch, logits, _ = case
    with torch.no_grad():
        predictions = make_task().predict(make_task().outputs(model, batch), [{}] * ROWS)
    assert len(predictions) == ROWS
    for row, prediction in zip(logits, predictions, strict=False):
        assert prediction["label"] == LABELS[int(row.argmax())]
        assert math.isclose(sum(prediction["scores"].values()), 1, abs_tol=1e-5)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ({"good": 3.0, "never": 0.5}, [1, 3, 1, 0.5]),
        ("balanced", [1, 0.5, 2, 2]),  # each label's rows have the same total weight
    ],
    ids=str,
)
def test_class_weights_and_label_smoothing_match_torch(
    case: Case, weights: Any, expected: list[float]
) -> None:
    model, batch, logits, label = case
    sums = make_task(class_weights=weights, label_smoothing=0.1).loss(model, batch).tolist()
    mean = nn.CrossEntropyLoss(torch.tensor(expected), label_smoothing=0.1)
    assert sums[0] / sums[1] == pytest.approx(mean(logits, label).item(), rel=1e-6)
    assert sums[3] == REAL_ROWS


def test_a_temperature_changes_the_probabilities_and_not_the_label(case: Case) -> None:
    """The loss is that of the scaled logits; accuracy, mistakes and predicted labels are equal."""
    model, batch, _, _ = case
    task, plain = make_task(), make_task()
    task.calibration = Calibration(temperature=2.5)
    outputs = task.outputs(model, batch)
    label, real = batch.columns["label"], batch.weights > 0
    scaled = (outputs.log() / 2.5).softmax(-1)
    sums, mistakes = task.evaluate(outputs, batch)
    before, others = plain.evaluate(outputs, batch)
    found, expected = task.summarize(sums).metrics, plain.summarize(before).metrics
    losses = -scaled.gather(-1, label[:, None])[real].log()
    assert found["loss"] == pytest.approx(losses.mean().item())
    assert found["loss"] != pytest.approx(expected["loss"])
    assert found["accuracy"] == expected["accuracy"]
    assert [m.details["predicted"] for m in mistakes] == [m.details["predicted"] for m in others]
    assert torch.allclose(task.scored(outputs, batch)[0], scaled)
    pairs = zip(task.predict(outputs, []), plain.predict(outputs, []), scaled, strict=True)
    for one, other, row in pairs:
        assert one["label"] == other["label"]
        assert one["probability"] == round(row.max().item(), 6)
        assert list(one["scores"].values()) == pytest.approx(row.tolist(), abs=1e-6)


def test_a_class_weight_for_an_unknown_label_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="no label 'god', it has bad, good, mixed, never"):
        make_task(class_weights={"god": 2.0})


def test_unknown_labels_are_one_more_label_that_is_never_predicted(case: Case) -> None:
    model, batch, logits, label = case
    label = torch.where(torch.arange(REAL_ROWS) % 5 == 0, 4 + torch.arange(REAL_ROWS) % 2, label)
    batch.columns["label"][:REAL_ROWS] = label
    task = make_task()
    task.unknown_names = {"label": ["odd", "other"]}
    counts, mistakes = task.evaluate(task.outputs(model, batch), batch)
    metrics = task.summarize(counts).metrics
    predicted, known = logits.argmax(-1), label < 4
    assert metrics["examples"] == REAL_ROWS
    assert metrics["accuracy"] == (predicted == label).sum() / REAL_ROWS < known.sum() / REAL_ROWS
    expected = f1_score(label.clamp(max=4), predicted, average="macro", zero_division=0)
    assert metrics["macro_f1"] == pytest.approx(expected)
    probability = logits[known].double().softmax(-1)
    loss = log_loss(label[known], probability, labels=range(4))
    assert metrics["loss"] == pytest.approx(loss, rel=1e-5)
    names = [*LABELS, "odd", "other"]
    wrong = torch.nonzero(predicted != label).flatten().tolist()
    assert [m.details["label"] for m in mistakes] == [names[int(label[row])] for row in wrong]


def test_without_a_known_label_the_loss_is_not_defined(case: Case) -> None:
    model, batch, *_ = case
    batch.columns["label"][:] = 4
    task = make_task()
    task.unknown_names = {"label": ["odd"]}
    metrics = task.summarize(task.evaluate(task.outputs(model, batch), batch)[0]).metrics
    assert math.isnan(metrics["loss"])
    assert (metrics["examples"], metrics["accuracy"], metrics["macro_f1"]) == (REAL_ROWS, 0, 0)


def test_a_task_that_redefines_the_evaluation_does_not_count_unknown_labels_by_itself() -> None:
    class Own(Classification):
        def evaluate(self, outputs: Tensor, batch: Batch) -> Any:
            return super().evaluate(outputs, batch)

    class Counting(Own):
        counts_unknown_labels = True

    class Other(Classification):
        def details(self, batch: Batch, row: int) -> dict[str, Any]:
            return {}

    flags = [task.counts_unknown_labels for task in (Classification, Own, Counting, Other)]
    assert flags == [True, False, True, True]
