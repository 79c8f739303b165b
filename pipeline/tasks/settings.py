"""Settings of the task."""

from typing import Annotated, Literal

from pydantic import Field

from pipeline.settings import Section, setting

TaskName = Literal["classification", "multilabel", "tagging", "language_modelling", "images"]
Weight = Annotated[float, Field(gt=0)]

OF_TASK = {
    "label_smoothing": ("classification", "images"),
    "class_weights": ("classification", "images"),
    "write": ("language_modelling",),
    "temperature": ("language_modelling",),
    "seed": ("language_modelling",),
}
"""Keys that not all tasks have."""


class TaskSettings(Section):
    name: TaskName = setting(
        "classification",
        "what is learnt: a label of each text (classification) or image (images), any number of "
        "labels (multilabel), a tag of each word (tagging), what comes next (language_modelling)",
    )
    write: int = setting(
        50, "language_modelling: tokens that prediction goes on with", ge=1, may_change=True
    )
    temperature: float = setting(
        0.8,
        "language_modelling: how freely it draws them; 0: always the likeliest",
        ge=0,
        may_change=True,
    )
    seed: int = setting(0, "language_modelling: of these draws", ge=0, may_change=True)
    label_smoothing: float = setting(
        0.0,
        "classification, images: share of each row's weight that all labels have alike",
        ge=0,
        lt=1,
    )
    class_weights: Literal["none", "balanced"] | dict[str, Weight] = setting(
        "none",
        "classification, images: what the loss of a row of each label counts; balanced: rare ones "
        "more, so that all labels together count alike",
    )
