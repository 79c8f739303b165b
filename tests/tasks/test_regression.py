"""Regression: scaled numbers, losses, evaluation, and a run from a file to predictions."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.corpus.dataset.manifest import NumberStats, open_dataset
from pipeline.corpus.skip_reason import SkipReason
from pipeline.evaluation.evaluate import evaluate
from pipeline.inference.evaluator import evaluate_files
from pipeline.inference.model import load
from pipeline.runtime.process_group import World
from pipeline.stream.batch import Batch
from pipeline.tasks.regression import Regression
from tests.helpers.corpora import CASES, SMALL, small_run_overrides
from tests.helpers.processes import call
from tests.helpers.settings import model_settings
from tests.helpers.task_data import Data

ROWS, REAL_ROWS = 12, 9
MEAN, STD = 50.0, 20.0


class FixedOutputs(nn.Module):
    """A model with a given output per first token."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, tokens: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        return self.outputs[tokens[:, 0], None]


def make_task(loss: str = "mse") -> Regression:
    data = Data({"tokenizer": 50}, numbers={"number": NumberStats(MEAN, STD)})
    return Regression(Regression.Settings(loss=loss), model_settings(), data)


@pytest.fixture
def case() -> tuple[FixedOutputs, Batch]:
    """Return a model and a batch with padding at its end."""
    draw = torch.Generator().manual_seed(0)
    number = MEAN + STD * torch.randn(ROWS, generator=draw)
    columns = {"tokens": torch.arange(ROWS)[:, None].expand(ROWS, 3), "number": number}
    weights = (torch.arange(ROWS) < REAL_ROWS).float()
    keys = torch.zeros(ROWS, dtype=torch.int64)
    batch = Batch(columns, torch.full((ROWS,), 3), weights, keys)
    return FixedOutputs(torch.randn(ROWS, generator=draw)), batch


@pytest.mark.parametrize(
    "loss, function",
    [
        ("mse", functional.mse_loss),
        ("mae", functional.l1_loss),
        ("huber", functional.huber_loss),
    ],
)
def test_loss_is_that_of_scaled_numbers_without_padding(
    loss: str, function: Any, case: tuple[FixedOutputs, Batch]
) -> None:
    model, batch = case
    task = make_task(loss)
    true = batch.columns["number"][:REAL_ROWS]
    predicted = model.outputs[:REAL_ROWS]
    expected = function(predicted, (true - MEAN) / STD).item()
    metrics = task.metrics(task.loss(model, batch).tolist())
    error = (predicted * STD + MEAN - true).abs().mean().item()
    assert metrics == pytest.approx({"loss": expected}, rel=1e-5)
    documents = [(task.outputs(model, batch).detach(), batch)]
    world = World(0, 1, torch.device("cpu"))
    evaluation, mistakes = evaluate(task, documents, world, task.make_metrics(task.settings))
    assert evaluation.metrics["examples"] == REAL_ROWS
    assert evaluation.metrics["loss"] == pytest.approx(expected, rel=1e-5)
    assert evaluation.metrics["mean_absolute_error"] == pytest.approx(error, rel=1e-5)
    pairs = zip(true.tolist(), (predicted * STD + MEAN).tolist(), strict=True)
    assert evaluation.scatter == [pytest.approx(pair, rel=1e-5) for pair in sorted(pairs)]
    assert evaluation.baseline is not None
    assert evaluation.baseline.metric == "mean_absolute_error"
    assert evaluation.baseline.guess == f"the mean, {MEAN:.4g}"
    assert evaluation.baseline.value == pytest.approx((true - MEAN).abs().mean().item(), rel=1e-5)
    assert len(mistakes) == REAL_ROWS
    assert mistakes[0].loss == max(mistake.loss for mistake in mistakes)


def test_numbers_without_deviation_are_not_divided_by_zero() -> None:
    data = Data({"tokenizer": 50}, numbers={"number": NumberStats(7.0, 0.0)})
    assert Regression(Regression.Settings(), model_settings(), data).scale == 1.0


@pytest.mark.slow
def test_a_run_learns_evaluates_and_predicts_numbers(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    CASES["regression"].write(tmp_path / "ratings.csv", 800)
    status, _, err = call(
        "train", *small_run_overrides(tmp_path, "regression"), f"run.dir={folder}",
        "train.epochs=6", "train.lr=1e-2", "model.dropout=0", "train.ema_decay=0",
    )  # fmt: skip
    assert status == 0, err
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metric"] == "pearson_corrcoef"
    assert summary["best"] > 0.95
    predictor = load(folder)
    praise, blame = predictor.predict(["fine lovely superb moving fine", "dull awful weak tedious"])
    assert praise["number"] > 75
    assert blame["number"] < 25
    metrics, _ = evaluate_files(predictor.trained, f"{tmp_path}/ratings.csv")
    assert metrics["spearman_corrcoef"] > 0.95


def test_documents_that_are_split_are_evaluated_as_one(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    CASES["regression"].write(tmp_path / "ratings.csv", 100)
    status, _, err = call(
        "train", *small_run_overrides(tmp_path, "regression"), f"run.dir={folder}",
        "corpus.overflow=split", "corpus.truncation_side=start", "corpus.max_tokens=8",
        "train.max_steps=2",
    )  # fmt: skip
    assert status == 0, err
    predictor = load(folder)
    metrics, _ = evaluate_files(predictor.trained, f"{tmp_path}/ratings.csv")
    assert metrics["examples"] == 100
    (tmp_path / "one.csv").write_text("text,label\na fine film,50\n")
    metrics, _ = evaluate_files(predictor.trained, f"{tmp_path}/one.csv")
    assert metrics["examples"] == 1
    assert math.isnan(metrics["r2_score"])


def test_rows_without_a_number_are_skipped_and_counted(tmp_path: Path) -> None:
    values = ["1", "2.5", " 3e1 ", "", "many", "1e39", "nan", "-4"] * 5
    lines = [f"text {i} a,{value}" for i, value in enumerate(values)]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    status, _, err = call(
        "prepare", *SMALL, "task.name=regression", f"corpus.input={tmp_path}/rows.csv",
        f"corpus.shards={tmp_path}/shards", "corpus.max_skipped_ratio=0.6",
    )  # fmt: skip
    assert status == 0, err
    manifest = open_dataset(tmp_path / "shards")
    assert manifest.report[SkipReason.NO_NUMBER] == 15  # many, 1e39, nan
    assert manifest.report[SkipReason.NO_LABEL] == 5
    assert sum(split.rows for split in manifest.splits.values()) == 20
