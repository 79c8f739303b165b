"""Tables of the results of all parts, for README and docs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_parts.steps import Result, Step, read


def report(out: Path, parts: Mapping[str, Sequence[Step]]) -> str:
    """Return the results in a folder as Markdown; says so if nothing was measured."""
    sections = []
    for part, steps in parts.items():
        results = [read(p) for s in steps if (p := out / part / f"{s.name}.json").exists()]
        if results:
            sections.append(_section(part, steps, results))
    return "\n\n".join(sections) or f"{out}: nothing was measured."


def _section(part: str, steps: Sequence[Step], results: Sequence[Result]) -> str:
    by_name = {step.name: step for step in steps}
    missing = [name for name in by_name if name not in {r.step for r in results}]
    machines = list(dict.fromkeys(_describe(result.machine) for result in results))
    lines = [
        f"### {part}",
        "",
        *machines,
        "",
        "| step | result | seconds | measured |",
        "|---" * 4 + "|",
    ]
    for result in results:
        outcome = "pass" if result.passed else "FAIL"
        what = _measurements(result) if result.passed else result.error.strip().splitlines()[-1]
        text = f"{by_name[result.step].help} {what}".replace("|", "/")
        lines.append(f"| {result.step} | {outcome} | {result.seconds:.1f} | {text} |")
    if missing:
        lines += ["", f"Not run: {', '.join(missing)}."]
    return "\n".join(lines)


def _describe(machine: Mapping[str, Any]) -> str:
    return "; ".join(f"{name} {value}" for name, value in machine.items()) or "no machine is known"


def _measurements(result: Result) -> str:
    return "; ".join(f"{name}: {_short(value)}" for name, value in result.measurements.items())


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_short(v)}" for name, v in value.items())
    return f"{value:.4g}" if isinstance(value, float) else str(value)
