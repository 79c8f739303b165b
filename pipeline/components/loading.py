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

from pipeline.components.checking import check_class
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
_current: dict[str, Any] = {}
"""The module that was loaded last from a file of a name."""


def use_copy(reference: str, path: Path) -> None:
    """Load the components of the file that a reference `file.py:Class` names from another path."""
    _copies[reference.rpartition(":")[0]] = path


def reference(kind: str, component: type[Any]) -> str:
    """Return a name of a component that is loaded: as in a config, but without a file's folder."""
    module, name = component.__module__, component.__name__
    package = f"{KINDS[kind].package}."
    if module.startswith(package):
        return module.removeprefix(package)
    place = Path(_places[module][0]).name if module in _places else module
    return f"{place}:{name}"


def loaded_files() -> list[tuple[str, Path]]:
    """Return the files of the components that are loaded, to load them in another process."""
    return [(place, path) for place, path in _places.values() if path.is_file()]


def load_files(files: list[tuple[str, Path]]) -> None:
    """Load the files of another process, so that objects of their classes can be received."""
    for place, path in files:
        _copies[place] = path
        _current[Path(place).name] = _load_module(place, path)


@contextmanager
def temporary_copies() -> Iterator[None]:
    """Use copies inside the block only: for the components of another run."""
    before = dict(_copies), dict(_current)
    try:
        yield
    finally:
        for mapping, old in zip((_copies, _current), before, strict=True):
            mapping.clear()
            mapping.update(old)


@contextmanager
def original_files() -> Iterator[None]:
    """Load components from the files that references name, as they are now, inside the block.

    Without it, a process uses the copies of a run that it has loaded, and files as it first read
    them.
    """
    with temporary_copies():
        _copies.clear()
        _load_from_file.cache_clear()
        yield


def source(kind: str, reference: str) -> Source | None:
    """Return where a component comes from; None if it is built in."""
    found = load(kind, reference)
    is_file = reference.rpartition(":")[0].endswith(".py")
    if found.__module__.startswith("pipeline.") and not is_file:
        return None
    if not KINDS[kind].key and found.__module__ in _places:
        path = _places[found.__module__][1]
    else:
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
        path = _path(reference)
        found = _load_from_file(kind, place, path, class_name)
        _current[Path(place).name] = _load_module(place, path)
        return found
    return _check(kind, _class_of(_import(place), class_name))


def _loaded_module(place: str) -> ModuleType:
    """Return the module of a component that others name, which the config has loaded.

    A dataset can thus not make a process import anything.
    """
    module = _current.get(place) or sys.modules.get(place)
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
    if name.endswith(".py"):
        raise ConfigError(f"names a file, not a class; write {name}:Class")
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
    except ModuleNotFoundError as error:
        if Path(f"{place}.py").is_file():
            raise ConfigError(f"is no installed package; write {place}.py:Class") from None
        raise ConfigError(_import_error(error, None)) from None
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
    """Return a class if it is a component of a kind; else raise ConfigError."""
    check_class(kind, found, _base(kind))
    return found


@cache
def _base(kind: str) -> type[Any]:
    module, _, name = KINDS[kind].base.partition(":")
    base: type[Any] = getattr(importlib.import_module(module), name)
    return base
