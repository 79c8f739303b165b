"""Base of all settings classes: typed, frozen, no unknown keys, one line of help for each key.

Settings are declared beside the code that they configure (`pipeline/*/settings.py`) and assembled
in `pipeline/config/`.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.config import JsonDict
from pydantic.fields import FieldInfo


class Section(BaseModel):
    """One section of a config file."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        defer_build=True,
    )


def expand_home(path: str) -> str:
    """Return a path with the home folder in place of a leading `~` or `~user`."""
    return os.path.expanduser(path)  # noqa: PTH111  a URL or a pattern is no Path


FilePath = Annotated[str, AfterValidator(expand_home)]
"""Type of a key, or of its entries, that is a path of a file or folder, or may be one."""


def setting(
    default: Any, text: str, *, may_change: bool = False, kind: str = "", **bounds: Any
) -> Any:
    """Declare a key with its default and its line of help; `bounds` are pydantic's (`ge`, `lt`).

    `may_change` marks a key that may differ when a run resumes: it does not affect the weights.
    `kind` marks a key that chooses a component of that kind; see `pipeline.components`.
    """
    extra: JsonDict = {"may_change": may_change, "kind": kind}
    return Field(default, description=text, json_schema_extra=extra, **bounds)


class Conflict(NamedTuple):
    """A key whose value does not fit the other settings."""

    key: str
    problem: str
    remedy: str


def unused(key: str, used_by: str, values: Sequence[str], value: str) -> Conflict:
    """Return the conflict of a key that only some `values` of the key `used_by` use, not `value`.

    >>> unused("model.activation", "model.cell", ["elman"], "gru").problem
    'applies only to model.cell=elman and would be ignored with model.cell=gru'
    """
    value = value or "''"
    return Conflict(
        key,
        f"applies only to {used_by}={any_of(values)} and would be ignored with {used_by}={value}",
        f"remove it or change {used_by}",
    )


def same_column(config: "Sections", key: str, other: str) -> Iterator[Conflict]:
    """Yield a conflict if two keys of the section `corpus` name the same column."""
    if getattr(config.corpus, key) == getattr(config.corpus, other):
        yield Conflict(
            f"corpus.{key}", f"is the same column as corpus.{other}", "name another column"
        )


def any_of(names: Sequence[str]) -> str:
    """Join names for a message.

    >>> any_of(["elman", "lstm", "gru"])
    'elman, lstm or gru'
    """
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


class Sections(Protocol):
    """All sections of a config, for rules of components, which cannot import `pipeline.config`."""

    @property
    def task(self) -> Any: ...
    @property
    def corpus(self) -> Any: ...
    @property
    def stream(self) -> Any: ...
    @property
    def model(self) -> Any: ...
    @property
    def train(self) -> Any: ...
    @property
    def track(self) -> Any: ...


def is_default(section: Section, name: str) -> bool:
    """Return whether a key of a section has its default value."""
    return bool(getattr(section, name) == type(section).model_fields[name].default)


def changed_keys(old: Section, new: Section, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys that differ but must not, each with its old and its new value."""
    changed: dict[str, tuple[Any, Any]] = {}
    fields = type(old).model_fields | type(new).model_fields
    for name, field in fields.items():
        before, after = getattr(old, name, None), getattr(new, name, None)
        if isinstance(before, Section) and isinstance(after, Section):
            changed |= changed_keys(before, after, f"{prefix}{name}.")
        elif before != after and not may_change(field.json_schema_extra):
            changed[prefix + name] = (before, after)
    return changed


def kind_of(field: FieldInfo) -> str:
    """Return the kind of component that a key chooses, or an empty string."""
    extra = field.json_schema_extra
    return str(extra.get("kind", "")) if isinstance(extra, dict) else ""


def may_change(extra: Any) -> bool:
    """Return whether a field's `json_schema_extra` marks a key that may change."""
    return isinstance(extra, dict) and bool(extra.get("may_change"))
