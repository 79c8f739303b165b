"""Loads the class of a component: built in, of an installed package, or in a user's file."""

import ast
import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.metadata import packages_distributions, version
from pathlib import Path
from types import ModuleType
from typing import Any

from pipeline.components.kinds import KINDS, built_in, entry_points_of, names
from pipeline.errors import ConfigError

FILE_MODULE = "headrace_component_"
"""Prefix of the names of modules that are loaded from files."""


@dataclass(frozen=True)
class Source:
    """The file of a component that is not built in, to record it with a run."""

    kind: str
    reference: str
    path: Path
    sha256: str
    is_file: bool
    """Whether the reference names the file; else it names a module of an installed package."""
    version: str
    """Version of that package, if it is known."""


def load(kind: str, reference: str) -> type[Any]:
    """Return the class that a config's value refers to.

    Raises ConfigError with one line if there is no such class, or it is not such a component.
    """
    try:
        return _load(kind, reference)
    except ConfigError as error:
        key = KINDS[kind].key or kind
        raise ConfigError(f"{key}={reference}: {line}" for line in error.lines) from None


_copies: dict[str, Path] = {}
"""Paths to read instead of the files that references name."""
_places: dict[str, tuple[str, Path]] = {}
"""The file that a reference names, and the path that was read, by module name."""


def use_copy(reference: str, path: Path) -> None:
    """Load the components of the file that a reference `file.py:Class` names from another path."""
    _copies[reference.rpartition(":")[0]] = path


def reference(kind: str, component: type[Any]) -> str:
    """Return the value with which a config names a component that is loaded."""
    module, name = component.__module__, component.__name__
    package = f"{KINDS[kind].package}."
    if module.startswith(package):
        return module.removeprefix(package)
    place = _places[module][0] if module in _places else module
    return f"{place}:{name}"


def loaded_files() -> list[tuple[str, Path]]:
    """Return the files of the components that are loaded, to load them in another process."""
    return list(_places.values())


def load_files(files: list[tuple[str, Path]]) -> None:
    """Load the files of another process, so that objects of their classes can be received."""
    for place, path in files:
        _copies[place] = path
        _load_module(place, path)


@contextmanager
def temporary_copies() -> Iterator[None]:
    """Use copies inside the block only: for the components of another run."""
    before = dict(_copies)
    try:
        yield
    finally:
        _copies.clear()
        _copies.update(before)


def source(kind: str, reference: str) -> Source | None:
    """Return where a component comes from; None if it is built in."""
    found = load(kind, reference)
    is_file = reference.rpartition(":")[0].endswith(".py")
    if found.__module__.startswith("pipeline.") and not is_file:
        return None
    path = _path(reference) if is_file else Path(str(sys.modules[found.__module__].__file__))
    package = found.__module__.partition(".")[0]
    distributions = packages_distributions().get(package, [])
    return Source(
        kind,
        reference,
        path,
        sha256(path.read_bytes()).hexdigest(),
        is_file=is_file,
        version=version(distributions[0]) if distributions else "",
    )


def module_of(kind: str, reference: str) -> str:
    """Return the module that a reference to a class of an installed package names."""
    points = entry_points_of(kind)
    value = points[reference].value if reference in points else reference
    return value.partition(":")[0]


def _path(reference: str) -> Path:
    """Return the file of a reference `file.py:Class`, or of its copy in a run."""
    place = reference.rpartition(":")[0]
    return _copies.get(place, Path(place)).resolve()


def _load(kind: str, reference: str) -> type[Any]:
    if ":" not in reference:
        return _load_named(kind, reference)
    place, _, class_name = reference.rpartition(":")
    if not KINDS[kind].key:
        return _check(kind, _class_of(_loaded_module(place), class_name))
    if place.endswith(".py"):
        return _load_from_file(kind, place, _path(reference), class_name)
    return _check(kind, _class_of(_import(place), class_name))


def _loaded_module(place: str) -> ModuleType:
    """Return the module of a component that others name, which the config has loaded.

    A dataset can thus not make a process import anything.
    """
    names = [name for name, (known, _) in _places.items() if known == place]
    module = sys.modules.get(names[0] if names else place)
    if module is None:
        raise ConfigError(f"no component that the config names is in {place}; choose that one")
    return module


@cache
def _load_named(kind: str, name: str) -> type[Any]:
    is_built_in, points = name in built_in(kind), entry_points_of(kind)
    if is_built_in and name in points:
        raise ConfigError(
            f"this {kind} exists twice: in Headrace, and as the entry point {points[name].value}; "
            f"write {points[name].value}, or remove that package"
        )
    if name in points:
        return _load(kind, points[name].value)
    if not is_built_in:
        nearest = difflib.get_close_matches(name, names(kind), 1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"use {', '.join(names(kind))}"
        raise ConfigError(f"no such {kind}; {hint} (or module:Class, or file.py:Class)")
    module = importlib.import_module(f"{KINDS[kind].package}.{name}")
    base = _base(kind)
    (found,) = (c for c in _classes(module) if issubclass(c, base) and not inspect.isabstract(c))
    return found


@cache
def _load_from_file(kind: str, place: str, path: Path, class_name: str) -> type[Any]:
    return _check(kind, _class_of(_load_module(place, path), class_name))


def _load_module(place: str, path: Path) -> ModuleType:
    """Import the file that references name `place` from `path`; the same code only once."""
    if not path.is_file():
        raise ConfigError(f"there is no file {path}; correct it")
    digest = sha256(path.read_bytes()).hexdigest()
    name = f"{FILE_MODULE}{digest[:16]}"
    if name not in sys.modules:
        _check_imports(path)
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # as an import does; dataclasses look there
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[name]
            raise ConfigError(_import_error(error, path)) from None
    _places.setdefault(name, (place, path))
    return sys.modules[name]


def _check_imports(path: Path) -> None:
    """Raise ConfigError if a file imports a file beside it, which a run's copy would lack."""
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return  # reported by the import
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [""] if node.level else [node.module or ""]
        else:
            continue
        for name in imported:
            first = name.partition(".")[0]
            beside = (path.parent / f"{first}.py", path.parent / first / "__init__.py")
            if first == "pipeline":
                continue  # Headrace itself, in the root of a clone
            if not first or any(place.exists() for place in beside):
                raise ConfigError(
                    f"line {node.lineno} imports {name or 'a file beside it'}; a component is one "
                    f"file: move that code into it, or install it as a package"
                )


def _import(place: str) -> ModuleType:
    try:
        return importlib.import_module(place)
    except Exception as error:
        raise ConfigError(_import_error(error, None)) from None


def _import_error(error: Exception, path: Path | None) -> str:
    """Return what failed in one line, with the line of the file."""
    if isinstance(error, SyntaxError):
        line: int | None = error.lineno
    else:
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if path and frame.filename == str(path)]
        line = own[-1] if own else None
    place = f"line {line}: " if line else ""
    return f"cannot be imported: {place}{type(error).__name__}: {error}; fix it"


def _class_of(module: ModuleType, name: str) -> type[Any]:
    found = getattr(module, name, None)
    if inspect.isclass(found):
        return found
    classes = ", ".join(c.__name__ for c in _classes(module)) or "no class"
    raise ConfigError(f"there is no class {name}; it has {classes}")


def _classes(module: ModuleType) -> list[type[Any]]:
    """Return the classes that a module defines."""
    values = vars(module).values()
    return [c for c in values if inspect.isclass(c) and c.__module__ == module.__name__]


def _check(kind: str, found: type[Any]) -> type[Any]:
    """Return a class if it is a component of a kind, with methods that can be called as the base
    class's; else raise ConfigError."""
    base = _base(kind)
    if not issubclass(found, base):
        raise ConfigError(
            f"{found.__name__} is not a {kind}; derive it from {base.__module__}.{base.__name__}"
        )
    own_settings = found.Settings
    if not (inspect.isclass(own_settings) and issubclass(own_settings, base.Settings)):
        raise ConfigError(
            f"{found.__name__}.Settings must derive from {base.Settings.__name__}; change its base"
        )
    missing = [*getattr(found, "__abstractmethods__", ()), *_missing_attributes(found)]
    if missing:
        names_of_missing = " and ".join(sorted(missing))
        raise ConfigError(f"{found.__name__} does not define {names_of_missing}; add it")
    for name in sorted({*_methods(base), *_init(base)}):
        own, expected = getattr(found, name), getattr(base, name)
        if problem := _mismatch(own, expected):
            raise ConfigError(f"{found.__name__}.{name} {problem}; change its parameters")
    return found


def _methods(base: type[Any]) -> Iterator[str]:
    """Yield the names of the public methods that Headrace's base classes define."""
    own = [c for c in base.__mro__ if c.__module__.startswith("pipeline.")]
    for name, value in [item for c in own for item in vars(c).items()]:
        value = getattr(value, "__func__", value)
        if inspect.isfunction(value) and not name.startswith("_"):
            yield name


def _init(base: type[Any]) -> Iterator[str]:
    """Yield the name of the constructor if one of Headrace's base classes defines it."""
    if any("__init__" in vars(c) for c in base.__mro__ if c.__module__.startswith("pipeline.")):
        yield "__init__"


def _missing_attributes(found: type[Any]) -> Iterator[str]:
    """Yield the class attributes that Headrace's base classes declare and nobody sets."""
    for base in found.__mro__:
        if base.__module__.startswith("pipeline."):
            for name, annotation in inspect.get_annotations(base).items():
                is_class_attribute = str(annotation).removeprefix("typing.").startswith("ClassVar")
                if is_class_attribute and not hasattr(found, name):
                    yield name


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


@cache
def _base(kind: str) -> type[Any]:
    module, _, name = KINDS[kind].base.partition(":")
    base: type[Any] = getattr(importlib.import_module(module), name)
    return base
