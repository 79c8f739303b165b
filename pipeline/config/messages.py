"""Error messages for a config: one line per mistake, with its key, its value and a remedy."""

import difflib
import json
import sys
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Any, Union, get_origin

import yaml
from pydantic.fields import FieldInfo

from pipeline import components
from pipeline.components import Kind
from pipeline.config.renamed import RENAMED_KEYS
from pipeline.config.schema import Config, section_classes
from pipeline.settings import Section, kind_of


def keys(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key with its pydantic field, in the order of declaration."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def key_table(config: type[Config] = Config, *, all_components: bool = False) -> str:
    """Return the table of a config's keys for `--help`.

    With `all_components`, the keys of all other built-in components follow.
    """
    lines = [_help_line(key, field) for key, field in keys(config)]
    shown = {key for key, _ in keys(config)}
    for kind in components.KINDS.values() if all_components else ():
        for name in components.names(kind.name) if kind.key else ():
            own = _component_keys(kind, name)
            if new := [_help_line(key, own[key]) for key in own if key not in shown]:
                lines += [f"{kind.key}={name}", *new]
    return "\n".join(lines)


def _help_line(key: str, field: FieldInfo) -> str:
    default = "" if field.is_required() else f" [{as_yaml(field.default)}]"
    choices = ""
    if kind := kind_of(field):
        known = ", ".join(components.names(kind))
        number = "a list of" if isinstance(field.default, list) else "one of"
        choices = f": {number} {known}, module:Class or file.py:Class"
    return f"  {key:30} {field.description}{choices}{default}"


def _component_keys(kind: Kind, name: str) -> dict[str, FieldInfo]:
    """Return the keys of a component and of the classes that it uses, with those of sections."""
    return {
        f"{section_name}.{key}": field
        for component in components.with_used(components.load(kind.name, name))
        for section_name, section in section_classes(Config).items()
        if components.belongs(component.Settings, section)
        for key, field in component.Settings.model_fields.items()
    }


def as_yaml(value: object) -> str:
    """Format a value as one line of YAML, as in a config file.

    >>> as_yaml([True, "a", "1"])
    "[true, a, '1']"
    """
    text = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=sys.maxsize
    )
    # safe_dump ends a bare scalar with "..." and breaks some texts over several lines.
    text = text.removesuffix("...\n").removesuffix("\n")
    return json.dumps(value, ensure_ascii=False, default=str) if "\n" in text else text


def error_line(detail: dict[str, Any], schema: type[Config] = Config) -> str:
    """Return the error line for one entry of pydantic's `ValidationError.errors()`.

    `schema` is the class of the config that was validated.
    """
    key = ".".join(str(part) for part in _path(detail["loc"], schema))
    if detail["type"] == "missing":
        return f"{key}: missing; set it, as it has no default"
    value = detail["input"]
    setting = f"{key}={as_yaml(value)}"
    if detail["type"] == "model_type":
        return f"{setting}: is not a section with keys; write it as {key}: {{key: value}}"
    if detail["type"] == "extra_forbidden":
        if key in RENAMED_KEYS:
            return f"{setting}: this key is now named {RENAMED_KEYS[key]}; rename it"
        if "." in str(detail["loc"][-1]):
            section, _, name = key.rpartition(".")
            return f"{setting}: is a key with a dot; in a file, write {name} in section {section}"
        return f"{setting}: no such key{suggestion(key, schema)}"
    for held_out in ("corpus.validation", "corpus.test"):
        if key.startswith(held_out):
            return f"{held_out}={as_yaml(value)}: needs a fraction between 0 and 1, or a file"
    line = f"{setting}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    if detail["type"] == "int_parsing_size":
        line += "; set a smaller number"
    if detail["type"] == "string_type" and value is None:
        line += "; null and ~ are not text in YAML: quote the value, or remove the key"
    return line


def error_lines(details: Sequence[Any], schema: type[Config] = Config) -> list[str]:
    """Return the error lines for pydantic's `ValidationError.errors()`, one for each value.

    If a key allows several types and the value has none of them, there is an entry for each type.
    """
    problems: dict[str, list[str]] = {}
    for detail in details:
        start, _, problem = error_line(dict(detail), schema).partition(": input should be ")
        problems.setdefault(start, []).extend([problem] if problem else [])
    return [
        start + (f": input should be {', or '.join(dict.fromkeys(found))}" if found else "")
        for start, found in problems.items()
    ]


def _path(loc: Sequence[int | str], schema: type[Config]) -> Sequence[int | str]:
    """Return the location of an error without the name of a type that pydantic adds for a union."""
    section = schema.model_fields.get(str(loc[0]))
    if len(loc) < 3 or section is None:
        return loc
    field = getattr(section.annotation, "model_fields", {}).get(loc[1])
    is_union = field is not None and get_origin(field.annotation) in (Union, UnionType)
    return (*loc[:2], *loc[3:]) if is_union else loc


def known_keys() -> list[str]:
    """Return the dotted keys of all sections, those of all components included."""
    found = [name for name, _ in keys()]
    for kind in components.KINDS.values():
        for name in components.names(kind.name):
            found += [key for key in _component_keys(kind, name) if key not in found]
    return found


def suggestion(key: str, schema: type[Config] = Config) -> str:
    """Return a hint at a key of the same name in another section, or of a similar name.

    If there is none, the hint is `--help`.

    >>> suggestion("model.hiden")
    '; did you mean model.hidden?'
    """
    chosen = [name for name, _ in keys(schema)]
    all_keys = [*dict.fromkeys([*chosen, *known_keys()]), *Config.model_fields]
    last = key.rpartition(".")[2]
    same_name = [name for name in all_keys if name.rpartition(".")[2] == last]
    nearest = same_name or difflib.get_close_matches(key, all_keys, 1, 0.6)
    if not nearest:
        by_last = {name.rpartition(".")[2]: name for name in all_keys}
        nearest = [
            by_last[n] for n in difflib.get_close_matches(last, by_last, 1, 0.7)
        ]  # short names: stricter
    return f"; did you mean {nearest[0]}?" if nearest else "; --help lists all keys"
