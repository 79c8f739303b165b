"""Sections about the predictions of one evaluation."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.report import samples, svg
from pipeline.report.html import figure, hint, meter, scrolled, table
from pipeline.report.numbers import format_number, format_tick
from pipeline.report.run_data import RunData
from pipeline.tasks.base.confusion import confused_pairs, most_confused
from pipeline.tasks.base.sample import SAMPLES

MAX_PAIRS = 10
"""Maximum number of confusions in the table; the most frequent ones are shown."""
MAX_ROWS = 12
"""Maximum number of labels in the table; a fold shows the others."""
MAX_MISTAKES = 20
"""Maximum number of mistakes on the page; a fold shows the others."""


def labels(run: RunData) -> str:
    """Return the confusion matrix, the most frequent confusions and the metrics of each label."""
    report = run.evaluation
    counts = np.asarray(report.get("table") or [], np.int64)
    names = [str(name) for name in report.get("labels") or []]
    if not len(names) or counts.shape != (len(names), len(names)):
        return ""
    unit = str(report.get("counted", "rows"))
    shown = most_confused(counts)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    heads = [names[i] for i in shown]
    drawn = svg.heat_map(
        heads,
        heads,
        shares[np.ix_(shown, shown)].tolist(),
        [[_short_count(count) for count in row] for row in counts[np.ix_(shown, shown)].tolist()],
        title=f"confusion matrix in {unit}, true labels as rows and predicted labels as columns",
        cell=64 if len(shown) <= 4 else 44 if len(shown) <= 10 else 34,
        diagonal=True,
    )
    note = f"number of {unit}; true labels on the left, predicted labels on top"
    if len(shown) < len(names):
        note += f"; only the {len(shown)} of {len(names)} labels with the most errors"
    matrix = figure("Confusion matrix", scrolled(drawn), note)
    confused = _confusions(counts, names, unit, int(report.get("left_out") or 0))
    per_label = _label_table(counts, names, unit)
    if len(shown) <= 4:
        return f"<div class='columns'>{matrix}<div>{per_label}{confused}</div></div>"
    return f"{matrix}<div class='columns'><div>{per_label}</div><div>{confused}</div></div>"


def calibration(run: RunData) -> str:
    """Return a reliability diagram: the accuracy of predictions by their probability."""
    bins = run.evaluation.get("calibration") or []
    if not bins:
        return ""
    total = sum(part["count"] for part in bins)
    error = sum(part["count"] * abs(part["confidence"] - part["accuracy"]) for part in bins) / total
    points = [(part["confidence"], part["accuracy"], part["count"]) for part in bins]
    rows = [
        (
            f"{part['low']:.1f} to {part['high']:.1f}",
            f"{part['count']:,}",
            f"{part['confidence']:.3f}",
            meter(part["accuracy"]),
        )
        for part in bins
    ]
    heads = ("probability", "predictions", "mean probability", "accuracy")
    drawn = svg.reliability(points, title="accuracy of predictions by their probability")
    explanation = hint(
        f"Of the predictions with probability 0.8, 80 % should be correct (dashed line); below the "
        f"line, the model is overconfident. The mean distance from the line is {error:.3f} "
        f"(expected calibration error)."
    )
    fitted = _fitted(run.summary.get("calibration") or {})
    return (
        f"{explanation}<div class='columns'>{figure('', drawn)}{table(heads, rows)}</div>{fitted}"
    )


def by_length(run: RunData) -> str:
    """Return a metric by document length."""
    report = run.evaluation
    bins = report.get("by_length") or []
    if len(bins) < 2:
        return ""
    metric = str(report.get("length_metric") or "loss")
    names = [
        format_tick(part["low"]) if part["low"] == part["high"] else
        f"{format_tick(part['low'])}-{format_tick(part['high'])}"
        for part in bins
    ]  # fmt: skip
    drawn = svg.bar_chart(
        names,
        [part["value"] for part in bins],
        title=f"{metric} by length",
        x_label="tokens",
        y_label=metric,
        notes=[f"{part['count']:,} rows" for part in bins],
    )
    rows = [
        (f"{part['low']:,} to {part['high']:,}", f"{part['count']:,}", format_number(part["value"]))
        for part in bins
    ]
    content = table(("tokens", "rows", metric), rows)
    return f"<div class='columns'>{figure('', drawn)}{content}</div>"


def regression(run: RunData) -> str:
    """Return a scatter plot of predicted against true numbers."""
    points = [(float(x), float(y)) for x, y in run.evaluation.get("scatter") or []]
    if not points:
        return ""
    drawn = svg.scatter(points, title=f"predicted and true numbers of {len(points):,} rows")
    explanation = hint(
        f"{len(points):,} rows. On the dashed line, the predicted number equals the true number."
    )
    return f"{explanation}<div class='charts'>{figure('', drawn)}</div>"


def mistakes(run: RunData) -> str:
    """Return the worst mistakes, highest loss first."""
    rows: Sequence[Mapping[str, Any]] = run.evaluation.get("mistakes") or []
    if not rows:
        return ""
    if images := (run.evaluation.get("pages") or {}).get("mistakes"):
        shown = SAMPLES.validate_python(images[:MAX_MISTAKES])
        return hint("Images with the highest loss, worst first.") + samples.render_samples(shown)
    first, rest = rows[:MAX_MISTAKES], rows[MAX_MISTAKES:]
    more = ""
    if rest:
        more = (
            f"<details><summary>{len(rest)} more</summary>{samples.render_mistakes(rest)}</details>"
        )
    return hint("Rows with the highest loss, worst first.") + samples.render_mistakes(first) + more


def sample_rows(run: RunData) -> str:
    """Return a few rows of the validation split with the model's predictions."""
    dumped = (run.evaluation.get("pages") or {}).get("samples") or []
    if not dumped:
        return ""
    return samples.render_samples(SAMPLES.validate_python(dumped))


def _confusions(counts: NDArray[np.int64], names: Sequence[str], unit: str, left_out: int) -> str:
    """Return a table of the most frequent confusions of two labels."""
    pairs = confused_pairs(counts.tolist(), names, left_out, MAX_PAIRS)
    if not pairs:
        return ""
    support = dict(zip(names, counts.sum(1).tolist(), strict=True))
    rows = [
        (true, predicted, f"{count:,}", meter(count / support[true]))
        for true, predicted, count in pairs
    ]
    heads = ("true", "predicted", unit, "share of true label")
    return f"<h3>Most frequent confusions</h3>{table(heads, rows, texts=2)}"


def _label_table(counts: NDArray[np.int64], names: Sequence[str], unit: str) -> str:
    """Return a table of precision, recall and F1 of each label, most frequent label first."""
    support, predicted, correct = counts.sum(1), counts.sum(0), counts.diagonal()
    rows = []
    for i in np.argsort(-support, kind="stable"):
        both = support[i] + predicted[i]
        rows.append(
            (
                names[i],
                _ratio(correct[i], predicted[i]),
                _ratio(correct[i], support[i]),
                _ratio(2 * correct[i], both),
                f"{support[i]:,}",
            )
        )
    heads = ("label", "precision", "recall", "F1", unit)
    shown = table(heads, rows[:MAX_ROWS])
    if rest := rows[MAX_ROWS:]:
        shown += f"<details><summary>{len(rest)} more</summary>{table(heads, rest)}</details>"
    return f"<h3>Labels</h3>{shown}"


def _fitted(calibration: Mapping[str, Any]) -> str:
    """Return what `task.calibrate` fitted, and a table of its effect."""
    if not calibration:
        return ""
    line = str(calibration["line"]).removeprefix("calibration ")
    if calibration["reason"]:
        return hint(f"After training, task.calibrate fitted {line}.")
    rows = []
    for split, before, after in (
        (f"validation, {calibration['folds']}-fold", "before", "after"),
        ("test", "test_before", "test_after"),
    ):
        for metric, value in calibration[before].items():
            changed = calibration[after][metric]
            rows.append(
                (split, metric.replace("_", " "), format_number(value), format_number(changed))
            )
    heads = ("split", "metric", "as trained", "calibrated")
    shown = f"After training, task.calibrate={calibration['method']} fitted {line.split(';')[0]}."
    return f"<h3>Calibrated model</h3>{hint(shown)}{table(heads, rows, texts=2)}"


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.3f}" if whole else "-"


def _short_count(count: int) -> str:
    return (
        f"{count:,}" if 0 < count < 10_000 else format_tick(float(f"{count:.3g}")) if count else ""
    )
