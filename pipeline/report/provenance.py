"""Sections about the dataset, the config and the environment of a run."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS
from pipeline.report import svg
from pipeline.report.html import Markup, figure, key_table, meter, table
from pipeline.report.numbers import format_date, format_tick
from pipeline.report.run_data import RunData
from pipeline.storage.redaction import redacted_settings

MAX_LABELS = 20
"""Maximum number of labels in the table; a fold shows the others."""
MAX_BARS = 40
"""Maximum number of bars of the histogram of row lengths."""
NOT_LEFT_OUT = {"rows", "conflicting", "truncated", "split", "segments"}
"""Counts in the dataset's report that do not count rows left out."""
DROP_DESCRIPTIONS = {
    "filtered": "excluded by corpus.filters",
    "label_once": "a label that no other row has",
    "in_validation": "same text as a validation row",
    "in_test": "same text as a test row",
    "duplicates": "same text as another row",
}
"""Descriptions of the reasons why valid rows are left out; `SKIP_DESCRIPTIONS` has the others."""
ENVIRONMENT = {
    "command": "command",
    "git_commit": "git commit",
    "device": "device",
    "world_size": "processes",
    "precision": "precision",
    "parameters": "parameters",
    "headrace": "Headrace",
    "torch": "PyTorch",
    "python": "Python",
    "platform": "platform",
}
"""Titles of the keys of environment.json, in order."""


def dataset(run: RunData) -> str:
    """Return the rows of each split, the rows of each label and the rows left out."""
    splits = run.manifest.get("splits") or {}
    if not splits:
        return ""
    rows = [
        (name, *(f"{split[key]:,}" for key in ("rows", "tokens", "max_length")))
        for name, split in splits.items()
    ]
    left = f"<div>{table(('split', 'rows', 'tokens', 'longest row'), rows)}{_left_out(run)}</div>"
    right = "".join(
        _label_counts(field, names, (run.manifest.get("counts") or {}).get(field) or ())
        for field, names in (run.manifest.get("names") or {}).items()
    )
    right += _length_histogram(run)
    return f"<div class='columns'>{left}<div>{right}</div></div>" if right else left


def config(run: RunData) -> str:
    """Return the keys that differ from their defaults, and the others in a fold."""
    settings = {
        f"{section}.{key}": value
        for section, keys in run.config.items()
        if isinstance(keys, dict)
        for key, value in keys.items()
    }
    values = {key: _plain(value) for key, value in redacted_settings(settings).items()}
    if not values:
        return ""
    changed = run.environment.get("changed_keys")
    first = {key: values[key] for key in values if key in (changed or ())}
    rest = {key: value for key, value in values.items() if key not in first}
    folded = "all keys" if changed is None else f"{len(rest)} keys with default values"
    return (
        f"{key_table(first) if first else ''}"
        f"<details><summary>{folded}</summary>{key_table(rest)}</details>"
    )


def environment(run: RunData) -> str:
    """Return the command, the machine and the versions of the run's last start."""
    known = run.environment
    values: dict[str, Any] = {
        title: f"{known[key]:,}" if isinstance(known[key], int) else known[key]
        for key, title in ENVIRONMENT.items()
        if known.get(key)
    }
    if run.times[0]:
        values["first update"], values["last update"] = map(format_date, run.times)
    values["run folder"] = run.folder
    return key_table(values) if len(values) > 1 else ""


def _left_out(run: RunData) -> str:
    counts = run.manifest.get("report") or {}
    rows = [
        (str(DROP_DESCRIPTIONS.get(reason) or SKIP_DESCRIPTIONS.get(reason, reason)), f"{number:,}")
        for reason, number in counts.items()
        if number and reason not in NOT_LEFT_OUT
    ]
    total = counts.get("rows", 0)
    if not rows:
        return f"<p class='hint'>All {total:,} rows are used.</p>" if total else ""
    content = table((f"rows left out, of {total:,}", "rows"), rows)
    return f"<h3>Rows left out</h3>{content}"


def _label_counts(field: str, names: Sequence[str], counts: Sequence[int]) -> str:
    pairs = sorted(zip(names, counts, strict=False), key=lambda pair: -pair[1])
    total = sum(counts)
    if not total:
        return ""
    rows: list[tuple[str, str, Markup]] = [
        (str(name), f"{count:,}", meter(count / total)) for name, count in pairs
    ]
    heads = (field, "rows", "share")
    shown = table(heads, rows[:MAX_LABELS])
    if rest := rows[MAX_LABELS:]:
        shown += f"<details><summary>{len(rest)} more</summary>{table(heads, rest)}</details>"
    return shown


def _length_histogram(run: RunData) -> str:
    """Return a histogram of the row lengths of the training split."""
    rows = run.lengths.get("rows") or []
    if not any(rows):
        return ""
    size = -(-len(rows) // MAX_BARS)
    starts = range(0, len(rows), size)
    labels = [f"{start:,}" if size == 1 else f"{start:,}-{start + size - 1:,}" for start in starts]
    drawn = svg.bar_chart(
        labels,
        [sum(rows[start : start + size]) for start in starts],
        title="rows of the training split by length",
        x_label="tokens",
        y_label="rows",
        x_ticks=[(start / size, format_tick(start)) for start in svg.ticks(0, len(rows))],
    )
    return f"<div class='columns'>{figure('Row lengths', drawn, 'training split')}</div>"


def _plain(value: Any) -> str:
    """Return a config value as YAML on one line."""
    if value is None or isinstance(value, (bool, list, Mapping)):
        return json.dumps(value, ensure_ascii=False)
    return str(value) if value != "" else "''"
