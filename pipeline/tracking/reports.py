"""`reports/*.json`: the data behind the plots, tables and pages of a run.

lengths.json         rows, edges, total: arguments of `plots.length_histogram`
step-00000200.json   step, table, labels, counted, left_out, accuracy (arguments of
                     `plots.confusion_matrix`), scatter (points of `plots.scatter`),
                     calibration and by_length (bins, see `pipeline.tasks.base.task`),
                     length_metric, mistakes (rows of a table), pages (samples by folder)
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from pipeline.storage.atomic import write_file
from pipeline.stream.index import sample_lengths
from pipeline.tasks.base.sample import SAMPLES, Sample
from pipeline.tracking import plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.stream.plan import Plan
    from pipeline.tasks.base.task import Evaluation

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_HISTOGRAM_BLOCKS = 20_000
"""Blocks that the length histogram counts; of a larger corpus, this many evenly spaced blocks."""


class Plot(NamedTuple):
    """A plot of a report."""

    name: str
    """lengths, confusion or scatter."""
    step: int
    draw: Callable[[], Figure]


def write_evaluation(
    folder: Path,
    step: int,
    evaluation: Evaluation,
    mistakes: Sequence[Mapping[str, Any]],
    pages: Mapping[str, list[Sample]] | None = None,
) -> None:
    """Report an evaluation's confusion matrix (if it has one), mistakes and sample pages.

    `folder` is the run folder. `mistakes` are the rows of a table. `pages` maps an artifact folder
    to the samples on the page that goes there.
    """
    report = {
        "step": step,
        "table": evaluation.confusion,
        "labels": list(evaluation.labels),
        "counted": evaluation.confusion_unit,
        "left_out": evaluation.left_out,
        "accuracy": evaluation.metrics.get("accuracy"),
        "scatter": evaluation.scatter,
        "calibration": [asdict(part) for part in evaluation.calibration],
        "by_length": [asdict(part) for part in evaluation.by_length],
        "length_metric": evaluation.length_metric,
        "mistakes": mistakes,
        "pages": {
            name: SAMPLES.dump_python(samples, mode="json")
            for name, samples in (pages or {}).items()
            if samples
        },
    }
    _write(folder, f"step-{step:08}", report)


def write_length_histogram(folder: Path, plan: Plan) -> None:
    """Report the row lengths of a split and the lengths that its batches are padded to."""
    index = plan.sources[0].index
    rows = np.bincount(sample_lengths(index, MAX_HISTOGRAM_BLOCKS), minlength=index.max_length + 1)
    report = {"rows": rows.tolist(), "edges": plan.edges.tolist(), "total": index.rows}
    _write(folder, "lengths", report)


def plots_of(name: str, report: Mapping[str, Any]) -> Iterator[Plot]:
    """Yield the plots of a report: the length histogram, or those of an evaluation."""
    if name == "lengths":
        yield Plot("lengths", 0, lambda: plots.length_histogram(**report))
        return
    title = f"step {report['step']}"
    if report["table"]:
        arguments = (report["table"], report["labels"], title, report["counted"])
        # earlier versions have neither
        left_out, accuracy = report.get("left_out", 0), report.get("accuracy")
        yield Plot(
            "confusion",
            report["step"],
            lambda: plots.confusion_matrix(*arguments, left_out=left_out, accuracy=accuracy),
        )
    if points := report.get("scatter"):  # earlier versions have none
        yield Plot("scatter", report["step"], lambda: plots.scatter(points, title))


def drawn(draw: Callable[[], T], title: str, path: str) -> T | None:
    """Return `draw()`; None, with a warning, if drawing fails.

    `title` is the tracker's name, `path` that of the drawing. Other drawings are not affected.
    """
    try:
        return draw()
    except Exception as error:  # any text or image of a corpus may break matplotlib
        logger.warning("%s: %s cannot be drawn, skipped: %s", title, path, error)
        return None


def _write(folder: Path, name: str, report: dict[str, Any]) -> None:
    (folder / "reports").mkdir(exist_ok=True)
    text = json.dumps(report, ensure_ascii=False)
    write_file(folder / "reports" / f"{name}.json", text, sync=False)  # damaged ones are skipped
