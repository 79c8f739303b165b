"""Error lines for a config: one for each mistake, with its dotted key, its value and a remedy."""

import difflib
from collections.abc import Iterator
from typing import Any

from pipeline.config.renamed import RENAMED_KEYS, RENAMED_VALUES
from pipeline.config.schema import Config
from pipeline.settings import Section


def keys(section: type[Section] = Config, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key with its pydantic field, in the order of declaration."""
    for name, field in section.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from keys(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def help_text() -> str:
    """Return the table of all keys for `--help`."""
    lines = []
    for key, field in keys():
        default = "" if field.is_required() else f" [{field.default!r}]"
        lines.append(f"  {key:30} {field.description}{default}")
    return "\n".join(lines)


def describe(detail: dict[str, Any]) -> str:
    """Return the line for one of pydantic's errors."""
    key = ".".join(str(part) for part in detail["loc"])
    value = detail["input"]
    if detail["type"] == "extra_forbidden":
        if key in RENAMED_KEYS:
            return f"{key}={value!r}: this key is now named {RENAMED_KEYS[key]}; rename it"
        return f"{key}={value!r}: no such key{suggestion(key)}"
    if detail["type"] == "missing":
        return f"{key}: missing; it has no default"
    if isinstance(value, str) and (key, value) in RENAMED_VALUES:
        return f"{key}={value}: is now named {RENAMED_VALUES[key, value]}; set that"
    if key.startswith("corpus.validation"):
        return f"corpus.validation={value!r}: needs a share between 0 and 1, or a file"
    line = f"{key}={value!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    if detail["type"] == "string_type":
        line += (
            "; YAML reads bare numbers, dates, yes, no, on and off as other types than text: "
            "quote it"
        )
    return line


def suggestion(key: str) -> str:
    """Return a hint to the nearest key: the same last name in another section, or similar spelling.

    >>> suggestion("model.hiden")
    '; did you mean model.hidden?'
    """
    known = [name for name, _ in keys()] + list(Config.model_fields)
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]
    near = same or difflib.get_close_matches(key, known, 1, 0.6)
    if not near:
        by_last = {name.rpartition(".")[2]: name for name in known}
        near = [by_last[n] for n in difflib.get_close_matches(last, by_last, 1, 0.7)]
    return f"; did you mean {near[0]}?" if near else "; --help lists all keys"
