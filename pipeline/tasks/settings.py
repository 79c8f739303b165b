"""Settings of the task."""

from typing import Literal

from pipeline.settings import Section, setting


class TaskSettings(Section):
    name: Literal["classification", "tagging"] = setting(
        "classification",
        "what is learnt: a label of each text (classification), or a tag of each word (tagging)",
    )
