"""`report.html`: one page about a run, written from the files of its folder.

The page has no script and loads nothing. Each section is left out if the run has no data for it.
"""

import logging
from collections.abc import Callable, Iterator
from html import escape
from pathlib import Path
from typing import NamedTuple

from pipeline.report import curves, predictions, provenance, run_data
from pipeline.report.numbers import format_date, format_duration, format_number
from pipeline.report.run_data import RunData
from pipeline.report.style import STYLE
from pipeline.run.folder import RunFolder
from pipeline.storage.atomic import write_file

logger = logging.getLogger(__name__)

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
"""Content security policy: the browser refuses scripts and all requests."""


class Section(NamedTuple):
    """A part of the page."""

    anchor: str
    title: str
    render: Callable[[RunData], str]
    """Returns the content as HTML, empty if the run has no data for it."""


SECTIONS = (
    Section("curves", "Curves", curves.curves),
    Section("labels", "Labels and confusions", predictions.labels),
    Section("calibration", "Calibration", predictions.calibration),
    Section("length", "Length and error", predictions.by_length),
    Section("scatter", "True and predicted numbers", predictions.regression),
    Section("samples", "Samples", predictions.sample_rows),
    Section("mistakes", "Worst mistakes", predictions.mistakes),
    Section("dataset", "Dataset", provenance.dataset),
    Section("config", "Config", provenance.config),
    Section("environment", "Environment", provenance.environment),
)


def write(folder: Path) -> Path:
    """Write the report of a run and return its path. Raises OSError."""
    path = RunFolder(folder).report
    write_file(path, render(run_data.read(folder)), sync=False)
    return path


def render(run: RunData) -> str:
    """Return the page of a run."""
    found = [(s, html) for s in SECTIONS if (html := _render(s.title, s.render, run))]
    name = escape(_name(run))
    links = "".join(f"<a href='#{s.anchor}'>{s.title}</a>" for s, _ in found)
    body = "\n".join(
        f"<section id='{s.anchor}'><h2>{s.title}{_step_note(s, run)}</h2>\n{html}\n</section>"
        for s, html in found
    )
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{name}</title>\n"
        f"<meta http-equiv='Content-Security-Policy' content=\"{POLICY}\">\n"
        f"<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<style>{STYLE}</style></head>\n<body><main>\n<header><h1>{name}</h1>\n"
        f"{_render('Header', _header, run)}\n"
        f"<nav>{links}</nav></header>\n{body}\n</main></body></html>\n"
    )


def _render(title: str, content: Callable[[RunData], str], run: RunData) -> str:
    """Return the content of a part of the page. Damaged data leaves out this part only."""
    try:
        return content(run)
    except Exception as error:
        logger.warning(
            "report.html: section %r is left out: %s: %s", title, type(error).__name__, error
        )
        return ""


def _name(run: RunData) -> str:
    return str((run.config.get("run") or {}).get("name") or run.folder.name)


def _header(run: RunData) -> str:
    """Return a line about the run, and its main numbers."""
    task = (run.config.get("task") or {}).get("name")
    dataset = Path(str((run.config.get("corpus") or {}).get("shards") or "")).name
    facts = [str(fact).replace("_", " ") for fact in (task,) if fact]
    facts += [dataset] if dataset else []
    facts += [format_date(run.times[1])] if run.times[1] else []
    tiles = "".join(
        f"<div><dt>{escape(title)}</dt><dd><div class='value'>{escape(value)}</div>"
        f"<div class='note'>{escape(note)}</div></dd></div>"
        for title, value, note in _tiles(run)
    )
    line = f"<p class='sub'>{escape(' · '.join(facts))}</p>"
    return f"{line}<dl class='tiles'>{tiles}</dl>" if tiles else line


def _tiles(run: RunData) -> Iterator[tuple[str, str, str]]:
    """Yield title, value and note of the run's main numbers."""
    metric, summary = run.best_metric, run.summary
    if run.best:
        step, value = run.best
        yield f"best validation {metric}", format_number(value), f"step {step:,.0f}"
    test = (summary.get("test") or {}).get(metric)
    if test is not None:
        bounds = (summary.get("intervals") or {}).get(metric)
        note = f"95 % interval {bounds[0]:.4g} to {bounds[1]:.4g}" if bounds else ""
        yield f"test {metric}", format_number(test), note
    if baseline := summary.get("baseline"):
        guess = f"always guessing {baseline['guess']}"
        yield f"baseline {baseline['metric']}", format_number(baseline["value"]), guess
    if run.last_step:
        epochs = run.metrics.get("progress/epoch")
        note = f"{epochs[-1][1]:.2f} epochs" if epochs else ""
        yield "updates", f"{run.last_step:,.0f}", note
    if summary.get("seconds"):
        speed = f"{summary['tokens_per_s']:,.0f} tokens/s"
        yield "training time", format_duration(summary["seconds"]), speed


def _step_note(section: Section, run: RunData) -> str:
    """Return the step of the evaluation that a section shows."""
    step = run.evaluation.get("step")
    if step is None or section.render.__module__ != predictions.__name__:
        return ""
    return f" <span class='dim'>at step {step:,}</span>"
