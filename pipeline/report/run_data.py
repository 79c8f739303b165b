"""The content of a run folder, as plain data.

The data of a missing or damaged file is empty, so that the rest can still be reported.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from pipeline.run.folder import RunFolder

logger = logging.getLogger(__name__)

BEST = "best/"
"""Prefix of the metric that has the best value so far."""
ENVIRONMENT = "environment.json"
"""Name of the file that `pipeline.tracking.environment` writes."""

Json = dict[str, Any]


@dataclass(frozen=True)
class RunData:
    """The content of a run folder."""

    folder: Path
    config: Json
    """Config values by section."""
    manifest: Json
    """Content of dataset.json."""
    summary: Json
    """Content of summary.json; empty until the run has ended."""
    environment: Json
    """Content of environment.json."""
    metrics: Mapping[str, list[tuple[float, float]]]
    """Points (step, value) of each metric, by step. Values that are not finite are left out."""
    times: tuple[float, float] = (0.0, 0.0)
    """Unix times of the first and the last line of metrics.jsonl."""
    lengths: Json = field(default_factory=dict)
    """Content of reports/lengths.json: `rows` has the number of training rows of each length."""
    evaluations: Mapping[int, Path] = field(default_factory=dict)
    """The file with the report of each evaluation, by step."""

    @property
    def best_metric(self) -> str:
        """Name of the metric that chooses the best checkpoint; empty if unknown."""
        if self.summary.get("metric"):
            return str(self.summary["metric"])
        return next((name.removeprefix(BEST) for name in self.metrics if name.startswith(BEST)), "")

    @property
    def best(self) -> tuple[float, float] | None:
        """Step and value of the best evaluation, None if unknown."""
        if self.summary.get("best") is not None:
            return float(self.summary["best_step"]), float(self.summary["best"])
        points = self.metrics.get(f"{BEST}{self.best_metric}")
        return points[-1] if points else None

    @property
    def last_step(self) -> float:
        """The last step that has metrics; 0 if none has."""
        return max((points[-1][0] for points in self.metrics.values()), default=0.0)

    @cached_property
    def evaluation(self) -> Json:
        """The report of the best evaluation, or else of the last one; empty if there is none."""
        steps = sorted(self.evaluations)
        if not steps:
            return {}
        best = int(self.best[0]) if self.best else -1
        return _read_json(self.evaluations[best if best in self.evaluations else steps[-1]])


def read(folder: Path) -> RunData:
    """Read a run folder."""
    run = RunFolder(folder)
    metrics, times = _read_metrics(run.metrics)
    return RunData(
        folder,
        _read_config(run.config),
        _read_json(run.dataset / "dataset.json"),
        _read_json(run.summary),
        _read_json(folder / ENVIRONMENT),
        metrics,
        times,
        _read_json(folder / "reports" / "lengths.json"),
        {
            int(path.stem[5:]): path
            for path in (folder / "reports").glob("step-*.json")
            if path.stem[5:].isdigit()
        },
    )


def _read_metrics(
    path: Path,
) -> tuple[dict[str, list[tuple[float, float]]], tuple[float, float]]:
    """Return the points of each metric, and the times of the first and the last line."""
    points: dict[str, dict[float, float]] = {}
    first = last = 0.0
    for line in _read_text(path).splitlines():
        try:
            values = json.loads(line)
            step, time = values.pop("step"), float(values.pop("time"))
        except (ValueError, TypeError, AttributeError, KeyError):
            continue  # cut short by a crash
        first, last = first or time, time
        for name, value in values.items():
            if isinstance(value, (int, float)) and math.isfinite(value):
                points.setdefault(name, {})[step] = value
    return {name: sorted(by_step.items()) for name, by_step in points.items()}, (first, last)


def _read_config(path: Path) -> Json:
    """Return the sections of a config; a file of another program may have other values."""
    try:
        values = yaml.safe_load(_read_text(path))
    except yaml.YAMLError as error:
        logger.warning("%s: cannot be read, left out of the report: %s", path, error)
        return {}
    sections = values.items() if isinstance(values, dict) else ()
    return {name: section for name, section in sections if isinstance(section, dict)}


def _read_json(path: Path) -> Json:
    if not (text := _read_text(path)):
        return {}
    try:
        values = json.loads(text)
    except ValueError as error:
        logger.warning("%s: cannot be read, left out of the report: %s", path, error)
        return {}
    return values if isinstance(values, dict) else {}


def _read_text(path: Path) -> str:
    """Return the text of a file, empty if there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
