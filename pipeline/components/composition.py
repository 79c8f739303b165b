"""Adds the keys of the chosen components to the sections of a config."""

import inspect
import types
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeVar

from pipeline.components.base import with_used
from pipeline.components.kinds import KINDS, names
from pipeline.components.loading import load
from pipeline.errors import ConfigError
from pipeline.settings import Section, kind_of

S = TypeVar("S", bound=Section)

Choice = tuple[str, str]
"""A kind of component and the value that chooses one."""


def compose(
    sections: Mapping[str, type[Section]], values: Mapping[str, Any]
) -> dict[str, type[Section]]:
    """Return the classes of sections with the keys of the components that `values` choose.

    A key that a component adds may choose a further component. Raises ConfigError with a line for
    each component that cannot be loaded, or if two of them declare the same key.
    """
    composed, parts = dict(sections), {name: list[type[Section]]() for name in sections}
    loaded: set[Choice] = set()
    mistakes: list[str] = []
    while new := [c for c in dict.fromkeys(_choices(composed, values)) if c not in loaded]:
        loaded.update(new)
        for choice in new:
            try:
                own = [component.Settings for component in with_used(load(*choice))]
            except ConfigError as error:
                mistakes += error.lines
                continue
            for name, section in sections.items():
                parts[name] += [part for part in own if belongs(part, section)]
        composed = {
            name: _merge(section, tuple(parts[name]), name) for name, section in sections.items()
        }
    if mistakes:
        raise ConfigError(mistakes)
    return composed


def make(section: type[S], **values: Any) -> S:
    """Return a section with these values, whose class has the keys of the chosen components."""
    composed: Any = compose({_name(section): section}, {_name(section): values})
    made: S = composed[_name(section)](**values)
    return made


def chosen(sections: Mapping[str, Section]) -> list[tuple[Choice, type[Any]]]:
    """Return the components that the values of sections choose."""
    classes = {name: type(section) for name, section in sections.items()}
    values = {name: dict(section) for name, section in sections.items()}
    return [(choice, load(*choice)) for choice in dict.fromkeys(_choices(classes, values))]


def owners(section: type[Section], key: str) -> dict[str, tuple[list[str], Any]]:
    """Return the kinds whose components add a key to a section: the components' names and the
    key's default."""
    found: dict[str, tuple[list[str], Any]] = {}
    if key in section.model_fields:
        return found
    for kind in KINDS:
        for name in names(kind):
            for own in with_used(load(kind, name)):
                keys = own.Settings.model_fields if belongs(own.Settings, section) else {}
                if key in keys:
                    known, _ = found.setdefault(kind, ([], keys[key].default))
                    known += [name] if name not in known else []
    return found


def belongs(part: type[Any], section: type[Section]) -> bool:
    """Return whether a class of keys derives from one that a section's class derives from too."""
    shared = (c for c in part.__mro__ if issubclass(c, Section) and c is not Section)
    return any(issubclass(section, c) for c in shared)


def _choices(sections: Mapping[str, type[Section]], values: Mapping[str, Any]) -> Iterator[Choice]:
    """Yield what the values choose. A value of another type is reported when it is validated."""
    for name, section in sections.items():
        own = values.get(name)
        for key, field in section.model_fields.items():
            if not (kind := kind_of(field)):
                continue
            value = own.get(key, field.default) if isinstance(own, Mapping) else field.default
            for reference in value if isinstance(value, list) else [value]:
                if isinstance(reference, str) and reference:
                    yield kind, reference


def _name(section: type[Section]) -> str:
    """Return the name of a section, given by its keys that choose components."""
    kinds = filter(None, map(kind_of, section.model_fields.values()))
    return next((KINDS[kind].section for kind in kinds), "")


@cache
def _merge(section: type[S], parts: tuple[type[S], ...], name: str) -> type[S]:
    """Return a class that has the keys of a section and of all parts, its subclasses."""
    bases = [
        part
        for part in dict.fromkeys(parts)
        if not issubclass(section, part)
        and not any(part is not p and issubclass(p, part) for p in parts)
    ]
    declared: dict[str, type[Any]] = {}
    for base in bases:
        own_classes = [c for c in base.__mro__ if not issubclass(section, c)]
        for own in own_classes:
            for key in inspect.get_annotations(own):
                if key in section.model_fields:
                    raise ConfigError(
                        f"{name}.{key}: {own.__qualname__} declares a key that the section has; "
                        f"rename it"
                    )
        for key in base.model_fields.keys() - section.model_fields.keys():
            owner = [c for c in base.__mro__ if key in getattr(c, "model_fields", ())][-1]
            if declared.setdefault(key, owner) is not owner:
                first, second = (c.__qualname__.split(".")[0] for c in (declared[key], owner))
                raise ConfigError(
                    f"{name}.{key}: {first} and {second} both declare this key; rename it in one "
                    f"of them"
                )
    if not any(issubclass(base, section) for base in bases):
        bases.append(section)
    if len(bases) == 1:
        return bases[0]
    namespace: dict[str, Any] = {
        # Another process that receives an instance lacks this class.
        "__reduce__": lambda self: (_rebuild, (section, parts, name, dict(self))),
        "__module__": section.__module__,
        "__doc__": section.__doc__,
    }
    merged: type[S] = types.new_class(
        section.__name__, tuple(bases), exec_body=lambda body: body.update(namespace)
    )
    return merged


def _rebuild(
    section: type[S], parts: tuple[type[S], ...], name: str, values: Mapping[str, Any]
) -> S:
    """Return the section that another process has sent."""
    return _merge(section, parts, name).model_construct(**values)
