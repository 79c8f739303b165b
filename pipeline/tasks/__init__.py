"""The built-in tasks, one module each, named as in `task.name`; `base/` holds what they share."""

from typing import TYPE_CHECKING, Any

from pipeline import components
from pipeline.corpus.field_spec import WEIGHT, FieldSpec
from pipeline.errors import ConfigError
from pipeline.settings import Section

if TYPE_CHECKING:
    from pipeline.tasks.base.task import Task


def get(name: str) -> "type[Task]":
    """Return the class of the task that `task.name` chooses."""
    found: type[Task] = components.load("task", name)
    return found


def fields(name: str, corpus: Any) -> tuple[FieldSpec, ...]:
    """Return the fields of a task and the weight of each row if `corpus.weight` is set, given the
    section `corpus`.

    Raises ConfigError if `fields` or `parse` of a user's task do not fit the rest of it.
    """
    task = get(name)
    try:
        found = task.fields(corpus)
    except AttributeError as error:
        if isinstance(error.obj, Section):
            raise ConfigError(
                f"task.name={name}: {task.__name__}.fields reads corpus.{error.name}, which no "
                f"class of {task.__name__}.uses declares; add the field kind that has it"
            ) from None
        raise
    inputs = {field.name for field in found if field.kind_class.is_input}
    if missing := sorted(inputs - task.parse("x").keys()):
        raise ConfigError(
            f"task.name={name}: {task.__name__}.parse returns no value for the field "
            f"{missing[0]!r}, which the model reads; define parse"
        )
    return (*found, FieldSpec(WEIGHT, corpus.weight, "weight")) if corpus.weight else found
