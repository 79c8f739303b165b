"""Loading, checking and dumping of configs."""

import difflib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline import components
from pipeline.config.messages import as_yaml, error_line, key_table, keys, suggestion
from pipeline.config.renamed import RENAMED_KEYS, RENAMED_VALUES
from pipeline.config.rules import conflicts
from pipeline.config.schema import Config, component_references, compose, section_classes
from pipeline.errors import ConfigError, RunError
from pipeline.run import code
from pipeline.settings import Section, unused

BUNDLED = Path(__file__).parents[1] / "configs"
"""Folder of the bundled configs; in a clone, a link to the top-level folder."""
DEFAULT = BUNDLED / "imdb.yaml"


class _Loader(yaml.SafeLoader):
    """YAML loader that reads `1e-3` as a number, like YAML 1.2; YAML 1.1 requires `1.0e-3`."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def load(
    path: Path | None = None, overrides: Iterable[str] = (), *, before: Config | None = None
) -> Config:
    """Read a config file, apply `key=value` overrides, and check the result.

    `before` is the config without the overrides: keys of components that they replace are dropped.

    `path` may also be the name of a bundled config, such as `chunking`; None loads the default.
    Raises ConfigError with one line per mistake.
    """
    path = _resolve(path) if path else DEFAULT
    values, overrides = _read(path), list(overrides)
    mistakes = list(_apply(values, overrides))
    _fill_defaults(values, path.stem)
    if old_values := list(_old_values(values)):
        raise ConfigError(sorted({*mistakes, *old_values}))
    try:
        schema = compose(values)
    except ConfigError as error:
        raise ConfigError(sorted({*mistakes, *error.lines})) from None
    if before is not None:
        _drop_replaced(values, before, schema, [o.partition("=")[0] for o in overrides])
    mistakes += _drop_unused(values, schema)
    try:
        config = schema.model_validate(values)
    except ValidationError as error:
        mistakes += [error_line(dict(detail), schema) for detail in error.errors()]
    else:
        mistakes += conflicts(config)
    if mistakes:
        raise ConfigError(sorted(set(mistakes)))
    return config


def help_text(
    path: Path | None = None, overrides: Iterable[str] = (), *, all_components: bool = False
) -> str:
    """Return the table of the keys of a config for `--help`, its values apart.

    The keys of a component are shown if the config chooses it, or with `all_components`.
    """
    path = _resolve(path) if path else DEFAULT
    values = _read(path)
    mistakes = list(_apply(values, overrides))
    if mistakes:
        raise ConfigError(mistakes)
    return key_table(compose(values), all_components=all_components)


def load_run_config(
    path: Path,
    overrides: Iterable[str] = (),
    *,
    trust_code: bool = False,
    trusted: Collection[str] = (),
) -> Config:
    """Read a run's `config.yaml`; the run's own components are used from its folder.

    Raises RunError if the file is missing or invalid, in one line if an earlier version wrote it: a
    run's config has all keys, so that many of its names are old ones. Raises RunError too if the
    run has code that is neither known on this machine nor trusted (`trust_code`, or
    its digest in `trusted`).
    """
    if not path.exists():
        raise RunError(f"{path.parent}: is not the folder of a run, it has no config.yaml")
    try:
        values = _read(path)
        references = component_references(values)
        code.use(path.parent, references, trust=trust_code, trusted=trusted)
        old_keys = _old_keys(values)
        if len(old_keys) > 1:
            raise RunError(
                f"{path}: was written by an earlier version: {len(old_keys)} of its keys have "
                f"other names now, such as {old_keys[0]}; use the version that wrote the run"
            )
        config = load(path)
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


def _resolve(path: Path) -> Path:
    """Return the path of the bundled config if `path` is its name; else return `path`.

    A file in the current folder takes precedence; a folder does not.
    """
    is_name = path.parent == Path() and (path.is_dir() or not path.exists())
    bundled = BUNDLED / f"{path.name.removesuffix('.yaml')}.yaml"
    return bundled if is_name and bundled.is_file() else path


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        folder = BUNDLED if path.parent == Path() else path.parent
        nearest = difflib.get_close_matches(path.name, [p.name for p in folder.glob("*.yaml")], 1)
        hint = f"; did you mean {folder / nearest[0]}?" if nearest else ""
        raise ConfigError(f"--config {path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--config {path}: not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(
            f"--config {path}: is a {type(values).__name__}; write sections of keys, such as "
            f"'train: {{lr: 1e-3}}'"
        )
    for name in Config.model_fields:
        if values.get(name) is None:
            values[name] = {}
    return values


def _apply(values: dict[str, Any], overrides: Iterable[str]) -> Iterator[str]:
    """Set each override in `values`; yield an error line for each that cannot be set."""
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.split(".")
        if not equals:
            yield f"{override!r}: not an override; use the form key=value, such as train.lr=1e-3"
            continue
        if len(parts) == 1:
            yield f"{key}={text}: the key has no section{suggestion(key)}"
            continue
        try:
            value = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError):  # an impossible date is a ValueError
            value = text
        target: Any = values
        for part in parts[:-1]:
            target = target.setdefault(part, {}) if isinstance(target, dict) else None
        if isinstance(target, dict):
            target[parts[-1]] = value
        else:
            yield f"{key}={text}: {'.'.join(parts[:-1])} has a value, it is not a section"


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
                continue  # no key at all, which is reported with the others
            value = section.pop(key)
            if value != default:
                chosen = _chosen(values, composed, chooser)
                conflict = unused(f"{name}.{key}", chooser, names, chosen)
                yield f"{name}.{key}={as_yaml(value)}: {conflict.problem}; {conflict.remedy}"


def _owner(
    composed: Mapping[str, type[Section]], section: type[Section], key: str
) -> tuple[str, list[str], Any]:
    """Return the key that chooses the owners of a key, the owners' names and the key's default.

    If the config does not have the choosing key either, it is the owners of that one that are
    named. The choosing key is empty if no component has the key.
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


def _fill_defaults(values: dict[str, Any], config_name: str) -> None:
    """Set the defaults that depend on the name of the config file or on `model.init_from`."""
    for section in ("run", "corpus"):
        if not isinstance(values.get(section), dict):
            return
    run_name = values["run"].setdefault("name", config_name)
    values["run"].setdefault("dir", f"runs/{run_name}")
    values["corpus"].setdefault("shards", f"data/shards/{run_name}")
    model = values["model"]
    if isinstance(model, dict) and isinstance(model.get("init_from"), str) and model["init_from"]:
        tokenizer = f"{model['init_from']}/dataset/tokenizer.json"
        values["corpus"].setdefault("tokenizer", tokenizer)
