"""The description of a run in MLflow, as Markdown: data, result, commands, changed settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.tracking.run_description import COMMAND_TAG, MAX_TAG_CHARS

if TYPE_CHECKING:
    from pipeline.tracking.run_description import RunDescription

MAX_VALUE = 80
"""Maximum length of a value in the table of settings, in characters."""
MAX_COMMAND = 1000
"""Maximum length of a command, in characters."""
CODE_WIDTH = 76
"""Width of a command, in columns; a wider one pushes other parts of MLflow's page out of sight."""
_TOKEN = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*"|['"])+""")
"""A word of a shell command."""


class Best(NamedTuple):
    """The best evaluation so far."""

    metric: str
    """Name of the metric, such as accuracy."""
    value: float
    step: int


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of a run's `summary.json`; empty if it is missing or damaged."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return summary if isinstance(summary, dict) else {}


def best_of(summary: Mapping[str, Any], delivered: Best | None) -> Best | None:
    """Return the best evaluation in a summary or the delivered one, whichever is later.

    The summary of an extended run is still that of its earlier end.
    """
    if summary.get("best") is None:
        return delivered
    best = Best(summary["metric"], summary["best"], summary["best_step"])
    return delivered if delivered and delivered.step > best.step else best


def write_note(description: RunDescription, best: Best | None, summary: Mapping[str, Any]) -> str:
    """Return the text of a run's note; `summary` is the content of `summary.json`, or empty."""
    results = [_result_line(best, summary), _baseline_line(summary), _test_line(summary)]
    parts = [
        "\n".join(f"- {line}" for line in [*results, _data_line(description)] if line),
        _command("Predict", description.predict),
    ]
    resume = "Start the run, or resume it if it was stopped; add `train.epochs=N` to extend it"
    end = _command(resume, description.tags.get(COMMAND_TAG, ""))
    used = sum(len(part) + 2 for part in [*parts, end])
    parts += [_settings_table(description, MAX_TAG_CHARS - used), end]
    return "\n\n".join(part for part in parts if part)[:MAX_TAG_CHARS]


def _result_line(best: Best | None, summary: Mapping[str, Any]) -> str:
    if best is None:
        return ""
    line = f"**Best validation {best.metric}: {best.value:.4f}** at step {best.step:,}"
    if (end := summary.get("step", 0)) > best.step:
        line += f" of {end:,}"
    return line


def _baseline_line(summary: Mapping[str, Any]) -> str:
    if not (baseline := summary.get("baseline")):
        return ""
    guess = _inline(str(baseline["guess"]))
    return f"Baseline {baseline['metric']}: {baseline['value']:.4f} by always guessing {guess}"


def _test_line(summary: Mapping[str, Any]) -> str:
    """Return the result on the test split, by the metric that chooses the best checkpoint."""
    metric, test = summary.get("metric"), summary.get("test") or {}
    if metric not in test:
        return ""
    line = f"**Test {metric}: {test[metric]:.4f}**"
    if bounds := (summary.get("intervals") or {}).get(metric):
        line += f", 95 % interval {bounds[0]:.4f} to {bounds[1]:.4f}"
    return f"{line}, checkpoint at step {summary['test_step']:,}"


def _data_line(description: RunDescription) -> str:
    """Return the name of the dataset and the rows of each split, unknown without preparation."""
    splits = ", ".join(f"{name} {rows:,}" for name, rows in description.splits.items())
    rows = f": {splits} rows" if splits else ""
    return f"Dataset {_inline(description.dataset['name'])}{rows}"


def _command(title: str, command: str) -> str:
    if not command:
        return ""
    if len(command) > MAX_COMMAND:
        command = f"{command[:MAX_COMMAND]} ..."
    return f"{title}:\n\n```\n{_wrap(command).replace('```', '` ` `')}\n```"


def _wrap(command: str) -> str:
    """Wrap a command at CODE_WIDTH columns, unless a word is longer, so that a shell accepts it."""
    lines = [""]
    for word in _TOKEN.findall(command):
        if lines[-1] and len(lines[-1]) + len(word) + 3 > CODE_WIDTH:
            lines.append("   ")
        lines[-1] += f" {word}" if lines[-1] else word
    return " \\\n".join(lines)


def _settings_table(description: RunDescription, room: int) -> str:
    """Return the table of settings that differ from defaults, in `room` characters."""
    changed = description.changed
    if not changed:
        return ""
    table = "| Setting | Value | Default |\n|---|---|---|"
    for number, (key, default) in enumerate(changed.items()):
        row = f"\n| {key} | {_cell(description.params.get(key, ''))} | {_cell(default)} |"
        rest = f"\n\nand {len(changed) - number} more settings, listed first under Parameters"
        if len(table) + len(row) + len(rest) > room:
            return table + rest
        table += row
    return table


def _cell(text: str) -> str:
    return _inline(text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]} ...")


def _inline(text: str) -> str:
    """Return a text as inline code on one line, which fits into a table cell."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "\\|")
    return f"`{plain}`" if plain else ""
