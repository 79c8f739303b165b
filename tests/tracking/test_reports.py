"""Reports of evaluations: their plots, and those of earlier versions."""

import json
from pathlib import Path
from typing import Any

from pipeline.tasks.base.task import Evaluation
from pipeline.tracking.reports import plots_of, write_evaluation


def report(folder: Path, evaluation: Evaluation) -> Any:
    write_evaluation(folder, 7, evaluation, [])
    return json.loads((folder / "reports" / "step-00000007.json").read_text())


def test_an_evaluation_has_the_plots_of_what_it_predicts(tmp_path: Path) -> None:
    labels = Evaluation({"loss": 1.0}, [[1, 0], [0, 2]], ["a", "b"])
    assert [p.name for p in plots_of("step-7", report(tmp_path, labels))] == ["confusion"]
    numbers = Evaluation({"loss": 1.0}, scatter=[(1.0, 2.0), (3.0, 2.5)])
    (plot,) = plots_of("step-7", report(tmp_path, numbers))
    assert (plot.name, plot.step) == ("scatter", 7)
    assert plot.draw().axes[0].get_title() == "step 7: 2 rows"


def test_a_report_of_an_earlier_version_has_no_scatter_plot() -> None:
    old = {"step": 1, "table": [], "labels": [], "counted": "rows", "mistakes": [], "pages": {}}
    assert list(plots_of("step-1", old)) == []
