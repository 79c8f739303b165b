"""Tasks, one module each."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.tasks.task import Task


TASK_CLASSES = {
    "captioning": ("captioning", "Captioning"),
    "classification": ("classification", "Classification"),
    "images": ("images", "Images"),
    "language_modeling": ("language_modeling", "LanguageModeling"),
    "multilabel": ("multilabel", "MultiLabel"),
    "tagging": ("tagging", "Tagging"),
    "translation": ("translation", "Translation"),
}
"""Module and class of each `task.name`."""


def get(name: str) -> "type[Task]":
    """Return the class of the task `name`, importing its module on first use."""
    module, class_name = TASK_CLASSES[name]
    task_class: type[Task] = getattr(import_module(f"pipeline.tasks.{module}"), class_name)
    return task_class
