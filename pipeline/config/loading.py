"""A config's YAML file and its overrides: read, checked, written."""

import difflib
import re
from collections.abc import Iterable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from pipeline.config.conflicts import conflicts
from pipeline.config.schema import Config
from pipeline.errors import ConfigError
from pipeline.settings import Section

DEFAULT = Path(__file__).parents[2] / "configs" / "imdb.yaml"


class _Loader(yaml.SafeLoader):
    """YAML 1.1 wants `1.0e-3`; people write `1e-3` and mean a number, as YAML 1.2 does."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d[\d_]*)(?:\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def load(path: Path | None = None, overrides: Iterable[str] = ()) -> Config:
    """Read `path` (the default config if None), apply `key=value` overrides and check the whole.

    Raises ConfigError with one line for each mistake.
    """
    path = path or DEFAULT
    values = _read(path)
    mistakes = list(_apply(values, overrides))
    _fill_defaults(values, path.stem)
    try:
        config = Config.model_validate(values)
    except ValidationError as error:
        mistakes += [_line(dict(detail)) for detail in error.errors()]
    else:
        mistakes += conflicts(config)
    if mistakes:
        raise ConfigError(sorted(set(mistakes)))
    return config


def dump(config: Config) -> str:
    """The resolved config as YAML, which `load` reads back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def keys(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key with its pydantic field, in the order of declaration."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def flatten(config: Config) -> dict[str, Any]:
    """Return the config's values by dotted key, in the order of declaration."""
    values: dict[str, Any] = {}
    for key, _ in keys():
        values[key] = reduce(getattr, key.split("."), config)
    return values


def help_text() -> str:
    """The table of all keys for `--help`."""
    lines = []
    for key, field in keys():
        default = "" if field.is_required() else f" [{field.default!r}]"
        lines.append(f"  {key:28} {field.description}{default}")
    return "\n".join(lines)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.glob("*.yaml")], 1)
        hint = f"; did you mean {path.parent / near[0]}?" if near else ""
        raise ConfigError(f"--config {path}: no such file{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {path}: cannot be read: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"--config {path}: not YAML: {' '.join(str(error).split())}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ConfigError(f"--config {path}: holds {type(values).__name__}, needs sections of keys")
    for name in Config.model_fields:
        if values.get(name) is None:
            values[name] = {}
    return values


def _apply(values: dict[str, Any], overrides: Iterable[str]) -> Iterator[str]:
    """Set each override in `values`; yield a line for each that cannot be."""
    for override in overrides:
        key, equals, text = override.partition("=")
        parts = key.split(".")
        if not equals:
            yield f"{override!r}: an override reads key=value, such as train.lr=1e-3"
            continue
        if len(parts) == 1:
            yield f"{key}={text}: an override names its section{_suggestion(key)}"
            continue
        try:
            value = yaml.load(text, _Loader)
        except (yaml.YAMLError, ValueError):  # a date that is none is a ValueError
            value = text
        target: Any = values
        for part in parts[:-1]:
            target = target.setdefault(part, {}) if isinstance(target, dict) else None
        if isinstance(target, dict):
            target[parts[-1]] = value
        else:
            yield f"{key}={text}: {'.'.join(parts[:-1])} is a value, not a section"


def _fill_defaults(values: dict[str, Any], stem: str) -> None:
    """The defaults that hang on the config's name, and the tokenizer of the run that it begins
    with."""
    for section in ("run", "corpus"):
        if not isinstance(values.get(section), dict):
            return
    name = values["run"].setdefault("name", stem)
    values["run"].setdefault("dir", f"runs/{name}")
    values["corpus"].setdefault("shards", f"data/shards/{name}")
    model = values["model"]
    if isinstance(model, dict) and isinstance(model.get("init_from"), str) and model["init_from"]:
        tokenizer = f"{model['init_from']}/dataset/tokenizer.json"
        values["corpus"].setdefault("tokenizer", tokenizer)


def _line(detail: dict[str, Any]) -> str:
    key = ".".join(str(part) for part in detail["loc"])
    if detail["type"] == "extra_forbidden":
        return f"{key}={detail['input']!r}: no such key{_suggestion(key)}"
    if detail["type"] == "missing":
        return f"{key}: missing; it has no default"
    if key.startswith("corpus.validation"):
        return f"corpus.validation={detail['input']!r}: needs a share between 0 and 1, or a file"
    line = f"{key}={detail['input']!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    if detail["type"] == "string_type":
        line += (
            "; YAML takes bare numbers, dates, yes, no, on and off for other than text: quote it"
        )
    return line


def _suggestion(key: str) -> str:
    """The nearest key: one of the same last name in another section, else the nearest spelling."""
    known = [name for name, _ in keys()] + list(Config.model_fields)
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    near = same or difflib.get_close_matches(key, known, 1, 0.6)
    if not near:
        lasts = {name.rpartition(".")[2]: name for name in known}
        near = [lasts[n] for n in difflib.get_close_matches(last, lasts, 1, 0.7)]
    return f"; did you mean {near[0]}?" if near else "; --help lists them all"
