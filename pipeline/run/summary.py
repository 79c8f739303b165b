"""The short summary that ends a run, kept so that a finished run can show it again."""

import json
import shlex
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import RunError
from pipeline.run.folder import RunFolder
from pipeline.runtime.launcher import command
from pipeline.storage.atomic import write_file
from pipeline.wording import shorten

WIDTH = 80
"""Maximum width of a line, in columns, unless a path is longer."""
MAX_NAME = 20
"""Maximum length of a label, in characters."""


@dataclass(frozen=True)
class Summary:
    """Results of a run: `summary.json`."""

    step: int
    epochs: float
    metric: str
    """Name of the metric that chooses the best checkpoint."""
    validation: Mapping[str, float]
    """All metrics of the last evaluation."""
    signatures: Mapping[str, str]
    """How some metrics were computed, by their names."""
    best: float | None
    best_step: int
    seconds: float
    tokens_per_s: float
    baseline: Mapping[str, Any] | None = None
    """A metric of a constant guess: `metric`, `value`, `guess`."""
    confused: Sequence[Sequence[Any]] = field(default_factory=list)
    """The most frequent confusions of the last evaluation: true label, predicted label, count."""
    test: Mapping[str, float] = field(default_factory=dict)
    """All metrics of the best checkpoint on the test split; empty if there is none."""
    intervals: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Bounds of the 95 % confidence intervals of the test metrics, by metric."""
    test_step: int = 0
    """Step of the checkpoint that was tested; 0 if none was."""
    calibration: Mapping[str, Any] | None = None
    """The content of `calibration.json` without the thresholds of single labels, and a `line` to
    show; None if the task has no calibration."""

    def write(self, folder: RunFolder) -> None:
        write_file(folder.summary, json.dumps(asdict(self), indent=1) + "\n")

    def lines(self) -> list[str]:
        """Return the lines to print."""
        best = f", best {self.best:.4f} at step {self.best_step}" if self.best is not None else ""
        value = self.validation[self.metric]
        lines = [f"validation  {self.metric} {value:.4f} at step {self.step}{best}"]
        if self.baseline:
            text = self._baseline_line(self.baseline)
            lines += textwrap.wrap(text, WIDTH, subsequent_indent=" " * 12)
        lines += self._test_lines()
        if self.calibration:
            lines.append(self.calibration["line"])
        if self.confused:
            lines.append(_confused_line(self.confused))
        return [
            *lines,
            (
                f"speed       {self.tokens_per_s:,.0f} tokens/s without padding, "
                f"{self.seconds:.0f} s of training, {self.epochs:.2f} epochs"
            ),
        ]

    def _baseline_line(self, baseline: Mapping[str, Any]) -> str:
        name = baseline["metric"]
        line = f"baseline    {name} {baseline['value']:.4f} by always guessing {baseline['guess']}"
        if name != self.metric and name in self.validation:
            line += f"; here {self.validation[name]:.4f}"
        return line

    def _test_lines(self) -> list[str]:
        if not self.test:
            return []
        interval = ""
        if bounds := self.intervals.get(self.metric):
            interval = f", 95 % interval {bounds[0]:.4f} to {bounds[1]:.4f}"
        value, rows = self.test[self.metric], int(self.test["examples"])
        return [
            f"test        {self.metric} {value:.4f}{interval}, step {self.test_step}, {rows:,} rows"
        ]


def _confused_line(pairs: Sequence[Sequence[Any]]) -> str:
    """Return as many of the pairs as fit on one line."""
    line = "confused    "
    for number, (true, predicted, count) in enumerate(pairs):
        text = f"{shorten(true, MAX_NAME)} as {shorten(predicted, MAX_NAME)} ({count:,})"
        if number and len(line) + 2 + len(text) > WIDTH:
            break
        line += f", {text}" if number else text
    return line


def read_summary(folder: RunFolder) -> Summary | None:
    """Return the summary of a run, None if it has none yet.

    Raises RunError if the file is damaged or has other keys.
    """
    if not folder.summary.exists():
        return None
    try:
        values: dict[str, Any] = json.loads(folder.summary.read_text())
        return Summary(**values)
    except (ValueError, TypeError) as error:
        raise RunError(
            f"{folder.summary}: cannot be read ({error}; another version may have written it); "
            f"delete it, and the same command writes it again"
        ) from None


def describe(folder: RunFolder, *, watch: Sequence[str], example: str) -> str:
    """Return the summary of a run and the commands to type next.

    `watch` has commands or URLs that show the run; `example` is a line to predict.
    """
    summary = read_summary(folder)
    lines = summary.lines() if summary else []
    lines.append(f"run folder  {folder.path}")
    if folder.report.exists():
        lines.append(f"report      {folder.report}")
    lines += [f"watch       {shown}" for shown in watch]
    predict = predict_command(folder.path, example)
    if len(predict) > WIDTH - 12:  # a shell reads on after the sign of a pipe
        predict = predict.replace(f" | {command('predict')}", f" |\n{'':14}{command('predict')}")
    lines += [
        f"predict     {predict}",
        "resume      the same command resumes a stopped run; train.epochs=N extends it",
    ]
    return "\n".join(lines)


def predict_command(folder: Path, example: str) -> str:
    """Return the command that predicts a line with a run; tabs separate the texts of a pair."""
    typed = f"echo {shlex.quote(example)}"
    if "\t" in example:
        typed = f"printf '%s\\t%s\\n' {shlex.join(example.split(chr(9), 1))}"
    return f"{typed} | {command('predict')} --run {shlex.quote(str(folder))}"
