"""Metrics equal the values of scikit-learn and SciPy; mistakes with them are one line."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn_metrics

from pipeline import components, config
from pipeline.errors import ConfigError
from pipeline.tasks.base.metric import LABEL, LABELS, NUMBER, UNKNOWN, join_scored
from tests.helpers.corpora import small_run_overrides
from tests.helpers.processes import call, error_lines
from tests.helpers.settings import task_settings

ROWS, C = 200, 4
NAMES = ["a", "b", "c", "d"]

draw = np.random.default_rng(0)
SCORES = draw.dirichlet(np.ones(C), ROWS)  # [ROWS, C]
LABEL_IDS = np.array([draw.choice(C, p=row) for row in SCORES])
PREDICTED = SCORES.argmax(1)
MULTI_HOT = draw.random((ROWS, C)) < SCORES + 0.2
NUMBERS = draw.normal(size=ROWS).round(1)  # with equal numbers
GUESSES = (NUMBERS + draw.normal(size=ROWS)).round(1)


def macro(function: Callable[..., Any]) -> float:
    return float(function(LABEL_IDS, PREDICTED, average="macro"))


ONE_LABEL = {
    "auroc": sklearn_metrics.roc_auc_score(LABEL_IDS, SCORES, multi_class="ovr"),
    "average_precision": sklearn_metrics.average_precision_score(np.eye(C)[LABEL_IDS], SCORES),
    "cohen_kappa": sklearn_metrics.cohen_kappa_score(LABEL_IDS, PREDICTED),
    "f1_score": macro(sklearn_metrics.f1_score),
    "matthews_corrcoef": sklearn_metrics.matthews_corrcoef(LABEL_IDS, PREDICTED),
    "precision": macro(sklearn_metrics.precision_score),
    "recall": macro(sklearn_metrics.recall_score),
}
SEVERAL_LABELS = {
    "auroc": sklearn_metrics.roc_auc_score(MULTI_HOT, SCORES),
    "average_precision": sklearn_metrics.average_precision_score(MULTI_HOT, SCORES),
    "f1_score": sklearn_metrics.f1_score(MULTI_HOT, SCORES > 0.5, average="macro"),
}
ONE_NUMBER = {
    "mean_absolute_error": sklearn_metrics.mean_absolute_error(NUMBERS, GUESSES),
    "mean_squared_error": sklearn_metrics.mean_squared_error(NUMBERS, GUESSES),
    "pearson_corrcoef": stats.pearsonr(NUMBERS, GUESSES).statistic,
    "r2_score": sklearn_metrics.r2_score(NUMBERS, GUESSES),
    "spearman_corrcoef": stats.spearmanr(NUMBERS, GUESSES).statistic,
}


def compute(name: str, predictions: Any, targets: Any) -> float:
    metric = components.load("metric", name)(task_settings(), NAMES)
    value = metric.compute(torch.tensor(predictions), torch.tensor(targets).double())
    return float(value)


@pytest.mark.parametrize("name, expected", ONE_LABEL.items(), ids=ONE_LABEL)
def test_metrics_of_one_label_equal_scikit_learn(name: str, expected: float) -> None:
    assert compute(name, SCORES, LABEL_IDS) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name, expected", SEVERAL_LABELS.items(), ids=SEVERAL_LABELS)
def test_metrics_of_several_labels_equal_scikit_learn(name: str, expected: float) -> None:
    assert compute(name, SCORES, MULTI_HOT) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name, expected", ONE_NUMBER.items(), ids=ONE_NUMBER)
def test_metrics_of_a_number_equal_scikit_learn_and_scipy(name: str, expected: float) -> None:
    assert compute(name, GUESSES, NUMBERS) == pytest.approx(expected, rel=1e-6)


def test_calibration_error_of_a_calibrated_model_is_small() -> None:
    certain = np.eye(C)[LABEL_IDS]
    assert compute("calibration_error", certain, LABEL_IDS) == pytest.approx(0)
    wrong = np.eye(C)[(LABEL_IDS + 1) % C]
    assert compute("calibration_error", wrong, LABEL_IDS) == pytest.approx(1)


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_the_coefficient_of_determination_does_not_depend_on_the_scale(scale: float) -> None:
    expected = ONE_NUMBER["r2_score"]
    assert compute("r2_score", GUESSES * scale, NUMBERS * scale) == pytest.approx(expected)
    assert math.isnan(compute("r2_score", [2.0 * scale], [3.0 * scale]))


def test_ranks_do_not_overflow() -> None:
    """100,000 rows with two numbers: the sum of equal ranks exceeds 32 bits."""
    targets = np.repeat([0.0, 1.0], 50_000)
    assert compute("spearman_corrcoef", targets, targets) == pytest.approx(1)


UNKNOWN_ROWS = draw.random(ROWS) < 0.2
WITH_UNKNOWN = np.where(UNKNOWN_ROWS, C + draw.integers(0, 3, ROWS), LABEL_IDS)
"""Label ids of which some are unknown: C, C + 1 or C + 2."""
ONE_UNKNOWN = np.minimum(WITH_UNKNOWN, C)
"""The same ids, in which all unknown labels are one more label."""
KNOWN_ONLY = np.eye(C + 1)[ONE_UNKNOWN][:, :C]
"""0 or 1 for each known label [ROWS, C]; all 0 for a row with an unknown one."""


def macro_with_unknown(function: Callable[..., Any]) -> float:
    return float(function(ONE_UNKNOWN, PREDICTED, average="macro", zero_division=0))


UNKNOWN_LABEL = {
    "auroc": sklearn_metrics.roc_auc_score(KNOWN_ONLY, SCORES),
    "average_precision": sklearn_metrics.average_precision_score(KNOWN_ONLY, SCORES),
    "cohen_kappa": sklearn_metrics.cohen_kappa_score(ONE_UNKNOWN, PREDICTED),
    "f1_score": macro_with_unknown(sklearn_metrics.f1_score),
    "matthews_corrcoef": sklearn_metrics.matthews_corrcoef(ONE_UNKNOWN, PREDICTED),
    "precision": macro_with_unknown(sklearn_metrics.precision_score),
    "recall": macro_with_unknown(sklearn_metrics.recall_score),
}
WIDE_SCORES = np.pad(SCORES, ((0, 0), (0, 1)))
WIDE_MULTI_HOT = np.column_stack([MULTI_HOT, UNKNOWN_ROWS])
UNKNOWN_LABELS = {
    "auroc": sklearn_metrics.roc_auc_score(MULTI_HOT, SCORES),
    "average_precision": sklearn_metrics.average_precision_score(MULTI_HOT, SCORES),
    "f1_score": sklearn_metrics.f1_score(WIDE_MULTI_HOT, WIDE_SCORES > 0.5, average="macro"),
    "matthews_corrcoef": sklearn_metrics.matthews_corrcoef(
        WIDE_MULTI_HOT.ravel(), WIDE_SCORES.ravel() > 0.5
    ),
    "precision": sklearn_metrics.precision_score(
        WIDE_MULTI_HOT, WIDE_SCORES > 0.5, average="macro", zero_division=0
    ),
    "recall": sklearn_metrics.recall_score(WIDE_MULTI_HOT, WIDE_SCORES > 0.5, average="macro"),
}


def compute_with_unknown(name: str, targets: Any) -> float:
    """Compute a metric of two batches, as an evaluation does."""
    scored = [
        (torch.tensor(SCORES[rows]), torch.tensor(targets[rows]).double())
        for rows in (slice(0, 90), slice(90, ROWS))
    ]
    predictions, joined, has_unknown = join_scored(scored)
    assert has_unknown
    metric = components.load("metric", name)(task_settings(), NAMES).with_unknown()
    assert metric.labels == [*NAMES, UNKNOWN]
    return float(metric.compute(predictions, joined))


@pytest.mark.parametrize("name, expected", UNKNOWN_LABEL.items(), ids=UNKNOWN_LABEL)
def test_unknown_labels_are_one_more_label_that_is_never_predicted(
    name: str, expected: float
) -> None:
    assert compute_with_unknown(name, WITH_UNKNOWN) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name, expected", UNKNOWN_LABELS.items(), ids=UNKNOWN_LABELS)
def test_unknown_ones_of_several_labels_are_missed(name: str, expected: float) -> None:
    assert compute_with_unknown(name, WIDE_MULTI_HOT) == pytest.approx(expected, rel=1e-6)


def test_the_calibration_error_of_unknown_labels_is_the_confidence() -> None:
    unknown = np.full(ROWS, C)
    confidence = SCORES.max(1).mean()
    assert compute_with_unknown("calibration_error", unknown) == pytest.approx(confidence)


def test_unknown_labels_of_one_batch_widen_the_targets_of_all() -> None:
    wide, narrow = torch.tensor([[1.0, 0, 1]]), torch.tensor([[0.0, 1]])
    scores = torch.tensor([[0.2, 0.7]])
    predictions, targets, has_unknown = join_scored([(scores, narrow), (scores, wide)])
    assert has_unknown
    assert targets.tolist() == [[0, 1, 0], [1, 0, 1]]
    assert predictions.tolist() == torch.tensor([[0.2, 0.7, 0]] * 2).tolist()
    predictions, targets, has_unknown = join_scored([(scores, narrow)])
    assert (predictions.shape, targets.shape, has_unknown) == ((1, 2), (1, 2), False)


def test_every_metric_of_labels_is_tested_with_unknown_ones() -> None:
    for name in components.names("metric"):
        predictions = components.load("metric", name).predictions
        assert LABEL not in predictions or name in {*UNKNOWN_LABEL, "calibration_error"}
        assert LABELS not in predictions or name in UNKNOWN_LABELS


def test_every_metric_is_tested_and_has_a_direction() -> None:
    for name in components.names("metric"):
        metric = components.load("metric", name)
        tested = {LABEL: ONE_LABEL, LABELS: SEVERAL_LABELS, NUMBER: ONE_NUMBER}
        assert name == "calibration_error" or any(name in tested[p] for p in metric.predictions)
        assert metric.lower_is_better == ("error" in name)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (
            ["task.metrics=[auroc, aurocc]"],
            "task.metrics=aurocc: no such metric; did you mean auroc",
        ),
        (
            ["task.metrics=[r2_score]"],
            (
                "task.metrics=[r2_score]: R2Score is a metric of tasks that predict a number; "
                "task.name=classification predicts a label; remove it"
            ),
        ),
    ],
)
def test_wrong_metrics_are_one_line(overrides: list[str], expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(None, overrides)
    (line,) = caught.value.lines
    assert line.startswith(expected)


def test_a_metric_of_a_file_has_the_name_of_its_class(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from pipeline.tasks.base.metric import LABEL, Metric\n\n"
        "class TopTwo(Metric):\n"
        "    predictions = (LABEL,)\n"
        "    def compute(self, predictions, targets):\n"
        "        best = predictions.topk(2, -1).indices\n"
        "        return (best == targets[:, None]).any(-1).double().mean().item()\n"
    )
    task = config.load(None, [f"task.metrics=[auroc, {path}:TopTwo]"]).task
    _, metric = (components.load("metric", name)(task, NAMES) for name in task.metrics)
    assert metric.name == "TopTwo"
    top = sklearn_metrics.top_k_accuracy_score(LABEL_IDS, SCORES, k=2)
    assert metric.compute(torch.tensor(SCORES), torch.tensor(LABEL_IDS)) == pytest.approx(top)


@pytest.mark.parametrize(
    "name, body, expected",
    [
        ("loss", "return 1.0", "there is a metric of the name loss already; rename the class"),
        ("accuracy", "return 1.0", "there is a metric of the name accuracy already; rename the"),
        ("Mine", "return targets[10**9]", "task.metrics: Mine: IndexError: "),
    ],
)
def test_a_name_that_exists_and_an_exception_are_one_line(
    name: str, body: str, expected: str, tmp_path: Path, corpus: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from pipeline.tasks.base.metric import LABEL, Metric\n\n"
        f"class {name}(Metric):\n"
        "    predictions = (LABEL,)\n"
        "    def compute(self, predictions, targets):\n"
        f"        {body}\n"
    )
    status, _, err = call(
        "train", *small_run_overrides(corpus), f"run.dir={tmp_path}/run", "train.max_steps=1",
        f"task.metrics=[{tmp_path}/mine.py:{name}]",
    )  # fmt: skip
    assert status == 2
    assert expected in error_lines(err)[0]
