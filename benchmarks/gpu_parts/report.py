"""Tables of the results of all parts, for README and docs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.steps import Result, Step, read

HIDDEN = ("finished",)
"""Measurements without a column in the tables."""


def report(out: Path, parts: Mapping[str, Sequence[Step]]) -> str:
    """Return the results in a folder as Markdown; says so if nothing was measured.

    First come the tables that the steps name, with a line for each step, for README and
    docs/results.md, then all steps of each part.
    """
    results = {
        (part, step.name): read(path)
        for part, steps in parts.items()
        for step in steps
        if (path := out / part / f"{step.name}.json").exists()
    }
    if not results:
        return f"{out}: nothing was measured."
    machines = dict.fromkeys(_describe(r.machine) for r in results.values() if r.machine)
    sections = ["\n".join(machines) or "machine: unknown"]
    tables: dict[str, list[tuple[Step, Result]]] = {}
    for part, steps in parts.items():
        for step in steps:
            result = results.get((part, step.name))
            if step.table and result and result.passed:
                tables.setdefault(step.table, []).append((step, result))
    sections += [_table(title, lines) for title, lines in tables.items()]
    for part, steps in parts.items():
        own = [results[part, step.name] for step in steps if (part, step.name) in results]
        if own:
            sections.append(_section(part, steps, own))
    return "\n\n".join(sections)


def _table(title: str, lines: Sequence[tuple[Step, Result]]) -> str:
    """Return a table with a line for each step and a column for each measurement."""
    columns = list(dict.fromkeys(name for _, result in lines for name in result.measurements))
    columns = [name for name in columns if name not in HIDDEN]
    rows = [f"### {title}", "", f"| model | {' | '.join(columns)} |"]
    rows.append("|---" * (len(columns) + 1) + "|")
    for step, result in lines:
        values = [_cell(name, result.measurements.get(name, "")) for name in columns]
        note = "" if result.finished else " (not finished)"
        rows.append(f"| {step.help.removesuffix('.')}{note} | {' | '.join(values)} |")
    return "\n".join(rows)


def _cell(name: str, value: Any) -> str:
    if not isinstance(value, float | int):
        return str(value)
    if "share" in name:
        return f"{value:.1%}"
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _section(part: str, steps: Sequence[Step], results: Sequence[Result]) -> str:
    """Return a table of all steps of a part, and the names of the steps without a result."""
    by_name = {step.name: step for step in steps}
    missing = [name for name in by_name if name not in {r.step for r in results}]
    lines = [f"### {part}", "", "| step | result | seconds | measured |", "|---" * 4 + "|"]
    for result in results:
        outcome = "pass" if result.passed else "FAIL"
        what = _measurements(result)
        if not result.passed:
            what = f"{result.error.strip().splitlines()[-1]} {what}".strip()
        text = f"{by_name[result.step].help} {what}".replace("|", "/")
        lines.append(f"| {result.step} | {outcome} | {result.seconds:.1f} | {text} |")
    if missing:
        lines += ["", f"Not run: {', '.join(missing)}."]
    return "\n".join(lines)


def _describe(machine: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in machine.items())


def _measurements(result: Result) -> str:
    return "; ".join(f"{name}: {_short(value)}" for name, value in result.measurements.items())


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(v)}" for name, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
