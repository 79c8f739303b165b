"""Converts the values of a config to the types of its keys; text is kept as written.

YAML reads `2024`, `1e3`, `2024-01-01`, `on` and `null` as other types than text unless they are in
quotes. A user who types `run.name=2024` means text.
"""

import os
import types
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pipeline.config.yaml_tree import OverrideCollection, Scalar, Tree, plain
from pipeline.errors import ConfigError
from pipeline.settings import Section, expand_home, kind_of

COLLECTIONS = (list, tuple, set, frozenset, dict)


def typed_sections(tree: Mapping[str, Tree], config: type[Section]) -> dict[str, Any]:
    """Return the values of a config whose class is `config`, for pydantic to validate.

    Values of unknown keys are read as in YAML. Raises ConfigError with a line for each override
    that has brackets but is not a list or mapping in YAML.
    """
    mistakes: list[str] = []
    values = {}
    for name, section in tree.items():
        field = config.model_fields.get(name)
        if field is None or not isinstance(section, dict):
            values[name] = plain(section)
            continue
        values[name] = own = {}
        for key, item in section.items():
            try:
                own[key] = _typed_key(item, field.annotation, key)
            except ValueError as error:
                mistakes.append(f"{name}.{key}={_text(item)}: {error}")
    if mistakes:
        raise ConfigError(mistakes)
    return values


def typed(tree: Tree, annotation: Any) -> Any:
    """Return the value of a tree for a key with this annotation.

    If the annotation allows text (`str`, or string literals), a scalar is kept as written, except a
    number or boolean whose type the annotation allows, too. An empty scalar becomes an
    empty list or dict if the annotation needs one. Raises ValueError if an override is in brackets
    but is not YAML.
    """
    return _typed(tree, tuple(_alternatives(annotation)))


def _typed_key(tree: Tree, section: Any, key: str) -> Any:
    """Return the value of a section's key."""
    field = section.model_fields.get(key)
    if field is None:
        return plain(tree)
    value = typed(tree, field.annotation)
    if kind_of(field):  # a component; it may be a class in a file, whose path is expanded
        return [_expanded(v) for v in value] if isinstance(value, list) else _expanded(value)
    return value


def _expanded(value: Any) -> Any:
    return expand_home(value) if isinstance(value, str) else value


def _typed(tree: Tree, choices: tuple[Any, ...]) -> Any:
    if isinstance(tree, OverrideCollection):
        accepted = any(_is_a(t, type(tree.tree)) for t in choices)
        if _wants_text(choices) and not (accepted and tree.text.lstrip()[:1] in "[{"):
            return tree.text
        return _typed(tree.tree, choices)
    if isinstance(tree, Scalar):
        return _typed_scalar(tree, choices)
    if isinstance(tree, list):
        items = [item for t in choices if _is_a(t, list) for item in get_args(t)[:1]]
        inner = tuple(alternative for item in items for alternative in _alternatives(item))
        return [_typed(item, inner) for item in tree]
    for section in choices:
        if isinstance(section, type) and issubclass(section, Section):
            return {key: _typed_key(item, section, key) for key, item in tree.items()}
    items = [item for t in choices if _is_a(t, dict) for item in get_args(t)[1:]]
    inner = tuple(alternative for item in items for alternative in _alternatives(item))
    return {key: _typed(item, inner) for key, item in tree.items()}


def _typed_scalar(scalar: Scalar, choices: tuple[Any, ...]) -> Any:
    value, text = scalar.value, scalar.text
    if scalar.is_null or (value is None and type(None) in choices):
        return None
    if _wants_text(choices):
        return value if _fits_beside_text(value, choices) else text
    collections = [t for t in choices if _is_collection(t)]
    if not collections:
        return value if text else ""
    if not text:
        return (get_origin(collections[0]) or collections[0])()
    if scalar.is_broken:
        raise ValueError(
            "is not a list or mapping in YAML; quote entries that contain brackets, braces or "
            'commas, such as ["a[1].csv", b.csv]'
        )
    items = tuple(a for t in collections for item in get_args(t) for a in _alternatives(item))
    return text if _wants_text(items) and not _fits_beside_text(value, items) else value


def _alternatives(annotation: Any) -> Iterator[Any]:
    """Yield the types that an annotation allows; `Annotated` and unions are resolved."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for alternative in get_args(annotation):
            yield from _alternatives(alternative)
    elif origin is Literal:
        yield from dict.fromkeys(type(choice) for choice in get_args(annotation))
    else:
        yield annotation


def _is_a(annotation: Any, kind: type) -> bool:
    """Return whether values of a type may be lists (`kind` is list) or mappings (dict)."""
    origin = get_origin(annotation) or annotation
    if annotation is Any or not isinstance(origin, type):
        return annotation is Any
    if kind is dict:
        return issubclass(origin, (Mapping, Section))
    return _is_collection(annotation) and not issubclass(origin, Mapping)


def _is_collection(annotation: Any) -> bool:
    origin = get_origin(annotation) or annotation
    if not isinstance(origin, type) or issubclass(origin, (str, bytes)):
        return False
    return any(issubclass(kind, origin) and origin is not object for kind in COLLECTIONS)


def _wants_text(choices: tuple[Any, ...]) -> bool:
    return any(isinstance(t, type) and issubclass(t, (str, os.PathLike)) for t in choices)


def _fits_beside_text(value: Any, choices: tuple[Any, ...]) -> bool:
    """Return whether a value is a boolean or a number of a type among the choices."""
    if isinstance(value, bool):
        return bool in choices
    return isinstance(value, (int, float)) and (int in choices or float in choices)


def _text(tree: Tree) -> str:
    return tree.text if isinstance(tree, (Scalar, OverrideCollection)) else str(plain(tree))
