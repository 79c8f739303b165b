"""Keys of the section `task`."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Section, setting

Weight = Annotated[float, Field(gt=0)]


class TaskSettings(Section):
    """The `task` section of a config file, without the keys of a task."""

    name: str = setting("classification", "what to learn", kind="task")
    metrics: list[str] = setting(
        [], "metrics to evaluate besides those of the task", kind="metric", may_change=True
    )


class TemperatureSettings(TaskSettings):
    """Key of tasks with one label per row."""

    calibrate: Literal["none", "temperature"] = setting(
        "temperature",
        "after training, fit a temperature of the probabilities on the validation split",
        may_change=True,
    )


class ThresholdSettings(TaskSettings):
    """Key of tasks with any number of labels per row."""

    calibrate: Literal["none", "shared", "per_label"] = setting(
        "shared",
        "after training, fit the probability from which a label is predicted on the validation "
        "split, one for all labels or one per label; none: 0.5",
        may_change=True,
    )


class SmoothingSettings(TaskSettings):
    """Keys of tasks that are trained with the cross entropy of labels or tokens."""

    label_smoothing: float = setting(
        0.0,
        "share of the target probability spread evenly over all labels or tokens",
        ge=0,
        lt=1,
    )
