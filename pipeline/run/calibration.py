"""`calibration.json`: the calibration of a run's best checkpoint, and its effect."""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from pipeline.errors import RunError
from pipeline.run import checkpoint
from pipeline.run.folder import RunFolder
from pipeline.run.summary import WIDTH
from pipeline.storage.atomic import write_file
from pipeline.tasks.base.calibration import NO_CALIBRATION, Calibration

logger = logging.getLogger(__name__)

Threshold = Annotated[float, Field(ge=0, le=1)]
Metrics = Mapping[str, float]


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class CalibrationRecord:
    """The content of `calibration.json`."""

    step: int
    """Step of the checkpoint that it was fitted for."""
    weights: str
    """SHA-256 of the checkpoint's weights."""
    method: str
    """The value of `task.calibrate`."""
    rows: int
    """Number of documents of the validation split on which it was fitted."""
    folds: int
    """Folds of cross-fitting."""
    before: Metrics
    """Metrics of these documents without the calibration."""
    after: Metrics
    """The same metrics by cross-fitting."""
    reason: str = ""
    """Why the calibration changes nothing; empty if it changes something."""
    temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    threshold: Threshold = 0.5
    """Threshold of all labels that are not in `label_thresholds`."""
    label_thresholds: Mapping[str, Threshold] = Field(default_factory=dict)
    test_rows: int = 0
    """Number of documents of the test split; 0 if there is none, or if nothing is calibrated."""
    test_before: Metrics = Field(default_factory=dict)
    test_after: Metrics = Field(default_factory=dict)

    @property
    def calibration(self) -> Calibration:
        return Calibration(self.temperature, self.threshold, self.label_thresholds)

    def write(self, folder: RunFolder) -> None:
        text = json.dumps(ADAPTER.dump_python(self), ensure_ascii=False, indent=1)
        write_file(folder.calibration, text + "\n")

    def summary(self) -> dict[str, Any]:
        """Return the entry in `summary.json`."""
        values: dict[str, Any] = ADAPTER.dump_python(self)
        del values["label_thresholds"]
        return {**values, "line": self.line()}

    def metrics(self) -> dict[str, float]:
        """Return the values for logs, such as `calibration/loss` and `calibration/loss_before`."""
        found = {f"calibration/{name}_before": value for name, value in self.before.items()}
        found |= {f"calibration/{name}": value for name, value in self.after.items()}
        found |= {f"calibration/test_{name}_before": v for name, v in self.test_before.items()}
        found |= {f"calibration/test_{name}": value for name, value in self.test_after.items()}
        own = "temperature" if self.method == "temperature" else "threshold"
        return {f"calibration/{own}": getattr(self, own), **found}

    def line(self) -> str:
        """Return the line of the run's summary."""
        if self.reason:
            return f"calibration none: {self.reason}"
        if self.label_thresholds:
            values = f"{1 + len(self.label_thresholds):,} thresholds"
        elif self.method == "temperature":
            values = f"temperature {self.temperature:.2f}"
        else:
            values = f"threshold {self.threshold:.2f}"
        metric, name = LINE_METRICS[self.method]
        beginning = f"calibration {values}; {name} {_change(self.before, self.after, metric)}"
        test = ""
        if self.test_rows:
            test = f", test {_change(self.test_before, self.test_after, metric)}"
        line = f"{beginning} ({self.folds}-fold){test}"
        return line if len(line) <= WIDTH else beginning + test


LINE_METRICS = {
    "temperature": ("calibration_error", "ECE"),
    "shared": ("micro_f1", "micro_f1"),
    "per_label": ("macro_f1", "macro_f1"),
}
"""The metric of each method in the summary, and its name there."""
ADAPTER = TypeAdapter(CalibrationRecord)


def _change(before: Metrics, after: Metrics, metric: str) -> str:
    return f"{before[metric]:.3f} -> {after[metric]:.3f}"


def read_record(folder: RunFolder) -> CalibrationRecord | None:
    """Return the content of `calibration.json`; None if there is no such file. Raises RunError if
    it is damaged."""
    try:
        return ADAPTER.validate_json(folder.calibration.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        reason = f"{place}: {first['msg']}" if place else first["msg"]
    except OSError as error:
        reason = error.strerror or str(error)
    raise RunError(
        f"{folder.calibration}: cannot be read ({reason}); delete it, and the training command "
        f"writes it again"
    )


def method_of(task: Any) -> str:
    """Return `calibrate` of the section `task`; "none" if it has no such key."""
    return str(getattr(task, "calibrate", "none"))


def is_of(record: CalibrationRecord, path: Path) -> bool:
    """Return whether a calibration was fitted for the weights of a checkpoint."""
    return record.weights == checkpoint.weights_digest(path)


def calibration_for(folder: RunFolder, path: Path, task: Any) -> Calibration:
    """Return the calibration of a run for its checkpoint at `path`.

    `task` is the section `task`; with `calibrate=none` or without this key, nothing is calibrated.
    A calibration that was fitted for other weights or with another method is not used, and a line
    is logged. Raises RunError if `calibration.json` is damaged.
    """
    method = method_of(task)
    record = read_record(folder) if method != "none" else None
    if record is None:
        return NO_CALIBRATION
    if not is_of(record, path):
        logger.info(
            "%s: was fitted for step %d, not for %s, and is not used",
            folder.calibration, record.step, path.name,
        )  # fmt: skip
        return NO_CALIBRATION
    if record.method != method:
        logger.info(
            "%s: was fitted with task.calibrate=%s, not %s, and is not used",
            folder.calibration, record.method, method,
        )  # fmt: skip
        return NO_CALIBRATION
    return record.calibration
