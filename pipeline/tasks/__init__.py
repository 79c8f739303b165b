"""One file a task."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.tasks.task import Task


def get(name: str) -> "type[Task]":
    """The task of a config's `task.name`, imported when asked for."""
    from pipeline.tasks.classification import Classification

    return {"classification": Classification}[name]
