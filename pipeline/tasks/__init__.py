"""One file a task."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.tasks.task import Task


WHERE = {
    "captioning": ("captioning", "Captioning"),
    "classification": ("classification", "Classification"),
    "images": ("images", "Images"),
    "language_modeling": ("language_modeling", "LanguageModeling"),
    "multilabel": ("multilabel", "MultiLabel"),
    "tagging": ("tagging", "Tagging"),
    "translation": ("translation", "Translation"),
}
"""The module and the class of each task."""


def get(name: str) -> "type[Task]":
    """The task of a config's `task.name`, imported when asked for."""
    module, kind = WHERE[name]
    found: type[Task] = getattr(import_module(f"pipeline.tasks.{module}"), kind)
    return found
