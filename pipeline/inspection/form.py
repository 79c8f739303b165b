"""Base class of forms: components that decide whether a table has the form that a task needs."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from pipeline.components import Component
from pipeline.corpus.field_spec import FieldSpec
from pipeline.inspection.keys import Keys
from pipeline.inspection.table import Table


@dataclass(frozen=True)
class Proposal:
    """A task that fits a table, and the keys of the section `corpus` to read the table with."""

    task: str
    """Value of `task.name`."""
    fit: float
    """How well the task fits, from 0 to 1; the best proposal is used."""
    why: str
    """Why the task fits, as part of a sentence."""
    keys: Keys
    fields: tuple[FieldSpec, ...] = ()
    """Fields to check in each row, as preparation does; empty if rows are not checked."""
    alternatives: tuple[str, ...] = ()
    """Other readings of the columns: one line each, with the keys to set."""
    is_sure: bool = True
    """Whether no other choice of columns is nearly as good."""


class Form(Component, ABC):
    """Decides whether a table has the form that a task needs.

    A form must not import torch, which would make inspection slow to start; it is therefore not
    part of its task. An installed package can add a form with an entry point named `form.NAME`.
    """

    task: ClassVar[str]
    """Value of `task.name`."""

    @classmethod
    @abstractmethod
    def propose(cls, table: Table) -> Proposal | None:
        """Return how the task would read the table; None if it does not fit.

        `table.text` and `table.label` are the columns that the user chose, if any.
        """
