"""Checks of a user's class: what its base classes need, in one line for each mistake."""

import inspect
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError
from pipeline.settings import Section


def check_class(kind: str, found: type[Any], base: type[Any]) -> None:
    """Raise ConfigError if a class is not a component of a kind, whose base class is `base`.

    It must derive from the base class, set all class attributes, define all abstract methods, and
    have methods that can be called as those of the classes that it derives from.
    """
    if not issubclass(found, base):
        raise ConfigError(
            f"{found.__name__} is not a {kind}; derive it from {base.__module__}.{base.__name__}"
        )
    _check_settings(found)
    _check_uses(found)
    for name, replacement in base.replaced_methods.items():
        if hasattr(found, name):
            raise ConfigError(f"{found.__name__} defines {name}; write {replacement}, instead")
    missing = [
        *(_signature(found, name) for name in getattr(found, "__abstractmethods__", ())),
        *_missing_attributes(found),
    ]
    if missing:
        raise ConfigError(
            f"{found.__name__} does not define {' and '.join(sorted(missing))}; add it"
        )
    for name, expected in sorted(_methods(found)):
        if problem := _mismatch(getattr(found, name), expected):
            raise ConfigError(f"{found.__name__}.{name} {problem}; change its parameters")


def require(component: object, attribute: str) -> None:
    """Raise ConfigError unless the constructor of a component has set an attribute."""
    if not hasattr(component, attribute):
        raise ConfigError(
            f"{type(component).__name__}.__init__ does not set self.{attribute}; add it"
        )


def describe(error: Exception) -> str:
    """Return an exception of a user's code in one line, with the file and line that raised it."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} ({Path(frame.filename).name}, line {frame.lineno})"


def _is_ours(owner: type[Any]) -> bool:
    return owner.__module__.startswith("pipeline.")


def _check_settings(found: type[Any]) -> None:
    settings = found.Settings
    for parent in found.__mro__[1:]:
        theirs = vars(parent).get("Settings")
        if theirs is not None and not (inspect.isclass(settings) and issubclass(settings, theirs)):
            raise ConfigError(
                f"{found.__name__}.Settings must derive from {theirs.__qualname__}; change its base"
            )
    for own in settings.__mro__:
        inherited = [c for c in own.__mro__[1:] if issubclass(c, Section)]
        for key in () if _is_ours(own) else inspect.get_annotations(own):
            for parent in inherited:
                if key in inspect.get_annotations(parent):
                    raise ConfigError(
                        f"{found.__name__}.Settings declares the key {key}, which "
                        f"{parent.__qualname__} has; rename it"
                    )


def _check_uses(found: type[Any]) -> None:
    uses = found.uses
    if not isinstance(uses, tuple) or not all(hasattr(used, "Settings") for used in uses):
        raise ConfigError(
            f"{found.__name__}.uses must be a tuple of classes with Settings, such as (A, B) or "
            f"(A,); correct it"
        )


def _missing_attributes(found: type[Any]) -> Iterator[str]:
    """Yield the class attributes that Headrace's base classes declare and nobody sets."""
    for base in filter(_is_ours, found.__mro__):
        for name, annotation in inspect.get_annotations(base).items():
            is_class_attribute = str(annotation).removeprefix("typing.").startswith("ClassVar")
            if is_class_attribute and not hasattr(found, name):
                yield name


def _signature(found: type[Any], name: str) -> str:
    """Return how an abstract method is to be declared."""
    value = inspect.getattr_static(found, name)
    is_static = "@staticmethod " if isinstance(value, staticmethod) else ""
    parameters = inspect.signature(getattr(value, "__func__", value)).parameters
    return f"{is_static}{name}({', '.join(parameters)})"


def _methods(found: type[Any]) -> Iterator[tuple[str, Any]]:
    """Yield the names of the public methods and constructors that Headrace's classes define, from
    which a class derives; each with the definition that the class overrides."""
    seen = set()
    for base in filter(_is_ours, found.__mro__):
        for name, value in vars(base).items():
            value = getattr(value, "__func__", value)
            is_method = inspect.isfunction(value) and (name == "__init__" or name[0] != "_")
            if is_method and name not in seen:
                seen.add(name)
                yield name, getattr(base, name)


def _mismatch(own: Any, expected: Any) -> str:
    """Return why a method cannot be called like the base class's, or an empty string."""
    parameters = list(inspect.signature(expected).parameters.values())
    positional = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    keywords = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
    try:
        inspect.signature(own).bind(*positional, **keywords)
    except TypeError:
        described = ", ".join(p.name for p in parameters)
        return f"has other parameters than the base class: ({described})"
    return ""
