"""Loading, checking and dumping of configs."""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline import components
from pipeline.config.defaults import fill_defaults, with_shards
from pipeline.config.messages import as_yaml, error_lines, key_table, keys
from pipeline.config.reading import (
    BUNDLED,
    DEFAULT,
    BaseConfig,
    read,
    read_base,
    set_overrides,
)
from pipeline.config.renamed import RENAMED_KEYS, RENAMED_VALUES
from pipeline.config.rules import conflicts
from pipeline.config.schema import Config, component_references, compose, section_classes
from pipeline.config.typed import typed_sections
from pipeline.errors import ConfigError, RunError
from pipeline.run import code
from pipeline.settings import Section, unused

__all__ = ["BUNDLED", "DEFAULT", "dump", "flatten", "help_text", "load", "load_run_config"]

logger = logging.getLogger(__name__)


def load(
    path: Path | None = None, overrides: Iterable[str] = (), *, before: Config | None = None
) -> Config:
    """Read a config file, apply `key=value` overrides, and check the result.

    `path` may also be the name of a bundled config, such as `chunking`. If it is None, the default
    config is read or, if the overrides set `corpus.input`, no file. `before` is the config without
    the overrides: the keys of components that they replace are dropped. Raises ConfigError with one
    line per mistake.
    """
    overrides = list(overrides)
    return _load(read_base(path, overrides), overrides, before)


def _load(base: BaseConfig, overrides: Sequence[str], before: Config | None = None) -> Config:
    """Apply overrides to a config, in place, and check the result, as `load` does."""
    mistakes = list(set_overrides(base.tree, overrides))
    own = typed_sections(base.tree, Config)
    if old_values := list(_old_values(own)):
        raise ConfigError(sorted({*mistakes, *old_values}))
    try:
        schema = compose(own)
    except ConfigError as error:
        raise ConfigError(sorted({*mistakes, *error.lines})) from None
    values = typed_sections(base.tree, schema)
    fill_defaults(values, base.name)
    if before is not None:
        _drop_replaced(values, before, schema, [o.partition("=")[0] for o in overrides])
    mistakes += _drop_unused(values, schema)
    try:
        config = schema.model_validate(values)
    except ValidationError as error:
        mistakes += error_lines(error.errors(), schema)
    else:
        mistakes += conflicts(config)
    if mistakes:
        raise ConfigError(sorted(set(mistakes)))
    if base.is_empty:
        logger.info(
            "no --config: other keys have the defaults of %s, not %s's",
            config.task.name, DEFAULT.name,
        )  # fmt: skip
    return with_shards(config, base.name)


def help_text(
    path: Path | None = None, overrides: Iterable[str] = (), *, all_components: bool = False
) -> str:
    """Return the table of the keys of a config for `--help`, without its values.

    The keys of a component are shown if the config chooses it, or with `all_components`.
    """
    overrides = list(overrides)
    base = read_base(path, overrides)
    mistakes = list(set_overrides(base.tree, overrides))
    if mistakes:
        raise ConfigError(mistakes)
    return key_table(compose(typed_sections(base.tree, Config)), all_components=all_components)


def load_run_config(
    path: Path,
    overrides: Iterable[str] = (),
    *,
    trust_code: bool = False,
    trusted: Collection[str] = (),
) -> Config:
    """Read a run's `config.yaml`; the run's own components are used from its folder.

    Raises RunError if the file is missing or invalid. If an earlier version wrote it, the error has
    one line, because many keys of such a file are old ones. Raises RunError, too, if the run has
    code that is neither known on this machine nor trusted (`trust_code`, or its digest in
    `trusted`).
    """
    if not path.exists():
        raise RunError(f"{path.parent}: is not a run folder; it has no config.yaml")
    try:
        base = BaseConfig(read(path), path.stem, is_empty=False)
        values = typed_sections(base.tree, Config)
        references = component_references(values)
        code.use(path.parent, references, trust=trust_code, trusted=trusted)
        old_keys = _old_keys(values)
        if len(old_keys) > 1:
            raise RunError(
                f"{path}: was written by an earlier version: {len(old_keys)} of its keys have "
                f"other names now, such as {old_keys[0]}; use the version that wrote the run"
            )
        config = _load(base, ())
    except ConfigError as error:
        lines = [f"{path}: {line} (was it written by another version?)" for line in error.lines]
        raise RunError(lines) from None
    return load(path, overrides, before=config) if overrides else config


def dump(config: Config) -> str:
    """Return the config as YAML, defaults included; `load` reads it back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def flatten(config: Config) -> dict[str, Any]:
    """Return the config's values by dotted key, in the order of declaration."""
    values: dict[str, Any] = {}
    for key, _ in keys(type(config)):
        value = reduce(getattr, key.split("."), config)
        if isinstance(value, list):
            value = [v.model_dump() if isinstance(v, Section) else v for v in value]
        values[key] = value
    return values


def _old_keys(values: Mapping[str, Any]) -> list[str]:
    """Return the keys of a config that have another name now."""
    sections = {name: section for name, section in values.items() if isinstance(section, dict)}
    return [f"{n}.{key}" for n, section in sections.items() for key in section
            if f"{n}.{key}" in RENAMED_KEYS]  # fmt: skip


def _old_values(values: Mapping[str, Any]) -> Iterator[str]:
    """Yield an error line for each value of a config that has another name now."""
    for (key, old), new in RENAMED_VALUES.items():
        name, _, field = key.partition(".")
        section = values.get(name)
        if isinstance(section, dict) and section.get(field) == old:
            yield f"{key}={old}: this value is now named {new}; rename it"


def _drop_replaced(
    values: Mapping[str, Any], before: Config, schema: type[Config], overridden: Collection[str]
) -> None:
    """Drop the keys that a config had only with components that overrides have replaced."""
    for name, section in section_classes(type(before)).items():
        gone = section.model_fields.keys() - section_classes(schema)[name].model_fields.keys()
        for key in gone:
            if f"{name}.{key}" not in overridden and isinstance(values.get(name), dict):
                values[name].pop(key, None)


def _drop_unused(values: Mapping[str, Any], schema: type[Config]) -> Iterator[str]:
    """Drop keys of components that are not chosen; yield an error line for each with a value.

    Such a key may have its default value, as in the config of a run of an earlier version.
    """
    composed = section_classes(schema)
    for name, base in section_classes(Config).items():
        section = values.get(name)
        if not isinstance(section, dict):
            continue
        for key in section.keys() - composed[name].model_fields.keys():
            chooser, names, default = _owner(composed, base, key)
            if not chooser:
                continue  # an unknown key, which is reported with the others
            value = section.pop(key)
            if value != default:
                chosen = _chosen(values, composed, chooser)
                conflict = unused(f"{name}.{key}", chooser, names, chosen)
                yield f"{name}.{key}={as_yaml(value)}: {conflict.problem}; {conflict.remedy}"


def _owner(
    composed: Mapping[str, type[Section]], section: type[Section], key: str
) -> tuple[str, list[str], Any]:
    """Return the key that chooses the owners of a key, the owners' names and the key's default.

    If the config does not have the choosing key either, the names are those of that key's owners.
    The choosing key is empty if no component has the key.
    """
    for kind, (names, default) in components.owners(section, key).items():
        chooser = components.KINDS[kind].key
        if not chooser:
            continue  # a field kind, which a task has
        name, _, field = chooser.partition(".")
        if field in composed[name].model_fields:
            return chooser, names, default
        outer, outer_names, _ = _owner(composed, section_classes(Config)[name], field)
        return outer, outer_names, default
    return "", [], None


def _chosen(values: Mapping[str, Any], composed: Mapping[str, type[Section]], chooser: str) -> str:
    """Return the value of a key that chooses a component."""
    name, _, field = chooser.partition(".")
    section = values.get(name)
    default = composed[name].model_fields.get(field)
    chosen = section.get(field) if isinstance(section, dict) else None
    value = (default.default if default else "") if chosen is None else chosen
    return value if isinstance(value, str) else as_yaml(value)
