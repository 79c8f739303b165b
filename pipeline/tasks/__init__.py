"""The built-in tasks, one module each, named as in `task.name`; `base/` holds what they share."""

from typing import TYPE_CHECKING

from pipeline import components

if TYPE_CHECKING:
    from pipeline.tasks.base.task import Task


def get(name: str) -> "type[Task]":
    """Return the class of the task that `task.name` chooses."""
    found: type[Task] = components.load("task", name)
    return found
