"""`report.html`: its sections, and what is left out of the reports of short and damaged runs."""

import json
import logging
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from pipeline.report import page, run_data
from pipeline.run.calibration import CalibrationRecord
from pipeline.tasks.base.sample import SAMPLES, ImageData, Sample
from tests.report.conftest import BAD, metric_lines

ALL = ["curves", "labels", "calibration", "length", "scatter", "samples", "mistakes", "dataset",
       "config", "environment"]  # fmt: skip
VOID = {"meta", "img", "br"}
CLOSED = {"circle", "line", "polyline", "rect", "image"}
"""SVG elements that may be closed in their own tag."""


class Structure(HTMLParser):
    """Checks that each element is closed, and collects ids, headings and the texts of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.heads = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if tag == "section":
            self.ids.append(attributes["id"] or "")
        if tag == "a":
            self.links.append(attributes["href"] or "")
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
            self.heads += 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in CLOSED

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def render(folder: Path) -> tuple[str, Structure]:
    html = page.render(run_data.read(folder))
    structure = Structure()
    structure.feed(html)
    assert structure.open == []
    assert structure.links == [f"#{anchor}" for anchor in structure.ids]
    return html, structure


def section(html: str, anchor: str) -> str:
    """The text of a section, without tags."""
    found = re.search(rf"<section id='{anchor}'>(.*?)</section>", html, re.DOTALL)
    assert found, anchor
    return " ".join(re.sub(r"<[^>]+>", " ", found[1]).split())


def test_a_run_with_all_data_has_all_sections(run_folder: Path) -> None:
    html, structure = render(run_folder)
    assert structure.ids == ALL
    assert structure.heads > 30
    assert "<h1>reviews</h1>" in html
    assert "classification · reviews-1234 · 2023-11-14 22:14 UTC" in html


def test_the_header_has_the_best_the_test_result_and_the_baseline(run_folder: Path) -> None:
    html, _ = render(run_folder)
    tiles = re.findall(
        r"<dt>([^<]+)</dt><dd><div class='value'>([^<]+)</div><div class='note'>([^<]*)</div>", html
    )
    assert tiles == [
        ("best validation accuracy", "0.75", "step 20"),
        ("test accuracy", "0.72", "95 % interval 0.61 to 0.83"),
        ("baseline accuracy", "0.5", "always guessing good"),
        ("updates", "40", "2.00 epochs"),
        ("training time", "2 min 5 s", "1,234 tokens/s"),
    ]


def test_text_of_the_corpus_is_escaped_and_has_its_own_direction(run_folder: Path) -> None:
    html, _ = render(run_folder)
    assert BAD not in html
    assert "&lt;script&gt;" in html
    assert "<th scope='row' dir='auto'>&lt;script&gt;" in html


def test_the_page_loads_nothing(run_folder: Path) -> None:
    html, _ = render(run_folder)
    assert "default-src 'none'" in html
    assert not re.search(r"<(script|link|iframe)|url\(|@import", html)
    assert all(uri.startswith(("data:", "#")) for uri in re.findall(r"(?:src|href)='([^']+)", html))


def test_labels_have_the_metrics_of_the_confusion_matrix(run_folder: Path) -> None:
    html, _ = render(run_folder)
    text = section(html, "labels")
    assert "at step 20" in text
    # bad: 40 of 60 predictions and of 50 true ones; the other label: 30 of 40 and of 50
    assert "bad 0.667 0.800 0.727 50" in text
    assert "0.750 0.600 0.667 50" in text
    assert re.search(r"bad 20 40\.0 %.* bad &lt;script&gt;\S+ 10 20\.0 %", text)
    assert 'fill-opacity="0.80"' in html


def test_calibration_states_its_error(run_folder: Path) -> None:
    text = section(render(run_folder)[0], "calibration")
    assert "mean distance from the line is 0.087" in text  # (10 * 0.05 + 30 * 0.10) / 40
    assert "0.9 to 1.0 30 0.970 87.0 %" in text


def test_calibration_shows_what_was_fitted(run_folder: Path) -> None:
    path = run_folder / "summary.json"
    metrics = {"loss": 0.5, "calibration_error": 0.25}
    record = CalibrationRecord(
        step=20, weights="ab", method="temperature", rows=100, folds=5, temperature=1.5,
        before=metrics, after={"loss": 0.375, "calibration_error": 0.125},
    )  # fmt: skip
    tested = replace(record, test_rows=50, test_before=metrics, test_after=metrics)
    summary = json.loads(path.read_text())
    for found, rows in ((record, 2), (tested, 4)):
        path.write_text(json.dumps({**summary, "calibration": found.summary()}))
        text = section(render(run_folder)[0], "calibration")
        assert "task.calibrate=temperature fitted temperature 1.50." in text
        assert "validation, 5-fold calibration error 0.25 0.125" in text
        assert text.count(" loss ") + text.count(" calibration error 0.") == rows
        assert ("test loss 0.5 0.5" in text) == (rows == 4)
    none = replace(record, reason="only 30 rows, at least 100 are needed")
    path.write_text(json.dumps({**summary, "calibration": none.summary()}))
    text = section(render(run_folder)[0], "calibration")
    assert text.endswith("task.calibrate fitted none: only 30 rows, at least 100 are needed.")


def test_length_and_numbers(run_folder: Path) -> None:
    html, _ = render(run_folder)
    assert "8 to 15 70 0.8" in section(html, "length")
    assert section(html, "scatter").startswith("True and predicted numbers at step 20 2 rows.")


def test_the_dataset_has_splits_labels_and_reasons(run_folder: Path) -> None:
    text = section(render(run_folder)[0], "dataset")
    assert "train 800 9,600 31 validation 100 1,200 30" in text
    assert "same text as another row 70 no text (empty, blank, or a list or map) 30" in text
    assert "good 600 66.7 % bad 300 33.3 %" in text
    assert "conflicting" not in text


def test_changed_keys_come_first_and_passwords_are_removed(run_folder: Path) -> None:
    html, _ = render(run_folder)
    first, _, rest = section(html, "config").partition("keys with default values")
    assert "train.lr 0.01" in first
    assert "train.native true" in rest
    assert "train.epochs 2" in rest
    assert "secret" not in html
    assert "headrace train --config imdb" in section(html, "environment")


def test_an_empty_folder_has_a_page_without_sections(tmp_path: Path) -> None:
    html, structure = render(tmp_path)
    assert structure.ids == []
    assert f"<h1>{tmp_path.name}</h1>" in html


def test_a_run_of_one_update_has_its_curves(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text(json.dumps(metric_lines(1)[0]) + '\n{"step": 2, "ti')
    html, structure = render(tmp_path)
    assert structure.ids == ["curves", "environment"]
    assert "nan" not in html.lower().replace("nano", "")


def test_a_stopped_run_has_its_best_evaluation_from_its_metrics(run_folder: Path) -> None:
    (run_folder / "summary.json").unlink()
    lines = [{"step": 20, "time": 1.0, "best/accuracy": 0.75, "val/accuracy": 0.75}]
    (run_folder / "metrics.jsonl").write_text(json.dumps(lines[0]) + "\n")
    html, _ = render(run_folder)
    assert "best 0.75 at step 20" in section(html, "curves")
    assert "at step 20" in section(html, "labels")


@pytest.mark.parametrize(
    "name", ["summary.json", "config.yaml", "reports/step-00000020.json", "dataset/dataset.json"]
)
def test_a_damaged_file_leaves_out_its_part(
    run_folder: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    (run_folder / name).write_text('{"a": [')
    _, structure = render(run_folder)
    assert "curves" in structure.ids
    assert len(structure.ids) < len(ALL) or name == "summary.json"
    assert "left out of the report" in caplog.text


@pytest.mark.parametrize(
    "name, text, missing",
    [
        ("config.yaml", "corpus: 3\nrun: a\ntask: [b]\n", {"config"}),
        ("summary.json", '{"baseline": 3, "test": {"accuracy": "x"}}', set()),
    ],
)
def test_a_file_of_another_program_leaves_out_its_part(
    run_folder: Path, name: str, text: str, missing: set[str]
) -> None:
    _, before = render(run_folder)
    (run_folder / name).write_text(text)
    _, structure = render(run_folder)
    assert {*before.ids} - {*structure.ids} == missing


def test_data_that_a_section_cannot_show_leaves_out_the_section(
    run_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    report = {"step": 20, "calibration": [{"low": "a"}], "by_length": [], "mistakes": []}
    (run_folder / "reports" / "step-00000020.json").write_text(json.dumps(report))
    with caplog.at_level(logging.WARNING):
        _, structure = render(run_folder)
    assert structure.ids == ["curves", "dataset", "config", "environment"]
    assert "report.html: section 'Calibration' is left out" in caplog.text


def test_many_labels_show_those_with_the_most_errors(run_folder: Path) -> None:
    table = [[0] * 30 for _ in range(30)]
    for i in range(30):
        table[i][i] = 100
        table[i][(i + 1) % 30] = i
    report = {"step": 20, "table": table, "labels": [f"label{i}" for i in range(30)]}
    (run_folder / "reports" / "step-00000020.json").write_text(json.dumps(report))
    html, _ = render(run_folder)
    text = section(html, "labels")
    assert "only the 20 of 30 labels with the most errors" in text
    matrix = html[html.index("Confusion matrix") : html.index("<h3>Labels")]
    shown = set(re.findall(r">(label\d+)<", matrix))
    assert len(shown) == 20
    assert "label29" in shown
    assert "label1" not in shown
    assert "18 more" in text  # rows of the table of labels


def test_mistakes_of_images_show_the_images(run_folder: Path) -> None:
    image = ImageData.of(np.zeros((2, 2, 1), np.uint8))
    pages = {"mistakes": SAMPLES.dump_python([Sample({"label": "3"}, image)], mode="json")}
    report = {"step": 20, "mistakes": [{"label": "3", "loss": 1.0}], "pages": pages}
    (run_folder / "reports" / "step-00000020.json").write_text(json.dumps(report))
    html, _ = render(run_folder)
    assert section(html, "mistakes").endswith("Images with the highest loss, worst first. label 3")
    assert html.count("data:image/png;base64,") == 1
    assert "<div class='samples images'>" in html


def test_write_replaces_the_page_at_once(run_folder: Path) -> None:
    path = page.write(run_folder)
    assert path == run_folder / "report.html"
    assert path.read_text(encoding="utf-8") == page.render(run_data.read(run_folder))
    assert not list(run_folder.glob(".report*"))
