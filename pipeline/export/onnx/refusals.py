"""Errors for models that cannot be exported to ONNX."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pipeline.errors import RunError

Writer = TypeVar("Writer")


def refusal(setting: str, remedy: str) -> RunError:
    """Return the error for a setting, given as key=value, that cannot be exported."""
    return RunError(f"{setting}: cannot be exported to ONNX; {remedy}")


def writer_of(
    writers: Mapping[type[Any], Writer], module: object, setting: str, names: Iterable[str]
) -> Writer:
    """Return the writer of a module's class.

    A subclass, such as a user's component, has no writer, because it may compute something else.
    Raises RunError with the `setting` that chose the module and the names of the supported values.
    """
    found = writers.get(type(module))
    if found is None:
        *most, last = names
        supported = f"{', '.join(most)} and {last}" if most else last
        raise refusal(setting, f"supported are {supported}")
    return found
