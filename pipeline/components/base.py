"""Base class of components."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

from pipeline.settings import Conflict, Section, Sections


class Component:
    """A class that a config chooses by name."""

    Settings: ClassVar[type[Any]] = Section
    """The component's keys, in a class that derives from that of their section."""
    uses: ClassVar[tuple[type[Any], ...]] = ()
    """Other classes with `Settings` whose keys a config has too if it chooses this component, such
    as the model of a task."""
    replaced_methods: ClassVar[Mapping[str, str]] = {}
    """What replaces a method of an earlier version, by the method's name."""

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        """Yield settings that do not work with this component."""
        yield from ()


def with_used(component: type[Any]) -> list[type[Any]]:
    """Return a component and all classes that it uses, directly or not, without repeats."""
    found = [component]
    for used in getattr(component, "uses", ()):
        found += [c for c in with_used(used) if c not in found]
    return found
