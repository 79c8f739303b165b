"""The curves of a run: losses, metrics, learning rate and speed over the steps."""

from collections.abc import Iterator

from pipeline.report import svg
from pipeline.report.html import figure
from pipeline.report.numbers import format_number
from pipeline.report.run_data import RunData

NAMES = {"optim/lr": "learning rate", "perf/tokens_per_s": "tokens per second"}
NOT_DRAWN = {"examples", "skipped_rows", "target_padding"}
"""Metrics about the data, not about the model."""
MAX_CURVES = 12


def curves(run: RunData) -> str:
    """Return one small chart per metric; the best evaluation is marked."""
    charts = [chart for _, chart in zip(range(MAX_CURVES), _charts(run), strict=False) if chart]
    return f"<div class='charts'>{''.join(charts)}</div>" if charts else ""


def _charts(run: RunData) -> Iterator[str]:
    last = run.last_step
    for name in _metric_names(run):
        lines = [
            svg.Line(split, points, dashed=split == "validation")
            for split, prefix in (("training", "train"), ("validation", "val"))
            if (points := run.metrics.get(f"{prefix}/{name}"))
        ]
        if len(lines) == 1:
            title = f"{name}, {lines[0].name}"
            lines = [svg.Line(name, lines[0].points)]
        else:
            title = name
        best = run.best if name == run.best_metric else None
        drawn = svg.line_chart(lines, title=f"{title} by step", best=best, last_step=last)
        note = f"best {format_number(best[1])} at step {best[0]:,.0f}" if best else ""
        yield figure(title, drawn, note)
    for name, title in NAMES.items():
        if points := run.metrics.get(name):
            line = svg.Line(title, points)
            yield figure(
                title,
                svg.line_chart([line], title=f"{title} by step", last_step=last, may_be_log=False),
            )


def _metric_names(run: RunData) -> list[str]:
    """Return the names of the metrics: the loss, the one that chooses the best, then the others."""
    found = [name.partition("/")[2] for name in run.metrics if name.startswith(("train/", "val/"))]
    first = [name for name in ("loss", run.best_metric) if name in found]
    return [name for name in dict.fromkeys([*first, *found]) if name not in NOT_DRAWN]
