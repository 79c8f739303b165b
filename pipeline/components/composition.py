"""Adds the keys of the chosen components to the sections of a config."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import create_model

from pipeline.components.kinds import KINDS, names
from pipeline.components.loading import load
from pipeline.errors import ConfigError
from pipeline.settings import Section, kind_of

S = TypeVar("S", bound=Section)


def compose(section: type[S], values: Mapping[str, Any]) -> type[S]:
    """Return a section's class with the keys of the components that `values` choose.

    Raises ConfigError with a line for each component that cannot be loaded, or if two of them
    declare the same key.
    """
    parts, mistakes, name_of_section = [], [], ""
    for name, field in section.model_fields.items():
        reference = values.get(name, field.default)
        kind = kind_of(field)
        if not kind or not isinstance(reference, str):
            continue  # a value of another type is reported when the section is validated
        name_of_section = KINDS[kind].key.partition(".")[0]
        try:
            parts.append(load(kind, reference).Settings)
        except ConfigError as error:
            mistakes += error.lines
    if mistakes:
        raise ConfigError(mistakes)
    return _merge(section, tuple(parts), name_of_section)


def make(section: type[S], **values: Any) -> S:
    """Return a section with these values, whose class has the keys of the chosen components."""
    return compose(section, values)(**values)


def owners(section: type[Section], key: str) -> dict[str, tuple[list[str], Any]]:
    """Return the kinds whose components add a key to a section: the components' names and the
    key's default."""
    found: dict[str, tuple[list[str], Any]] = {}
    for field in section.model_fields.values():
        if not (kind := kind_of(field)):
            continue
        for name in names(kind):
            own = load(kind, name).Settings.model_fields
            if key in own and key not in section.model_fields:
                found.setdefault(kind, ([], own[key].default))[0].append(name)
    return found


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
    return create_model(section.__name__, __base__=tuple(bases), __doc__=section.__doc__)
