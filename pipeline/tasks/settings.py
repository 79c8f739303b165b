"""Settings of the task."""

from typing import Literal

from pipeline.settings import Section, setting


class TaskSettings(Section):
    name: Literal["classification"] = setting("classification", "what is learnt")
