"""Base of all settings classes: typed, frozen, no unknown keys, one line of help for each key.

Settings are declared beside the code that they configure (`pipeline/*/settings.py`) and assembled
in `pipeline/config/`.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One section of a config file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


def setting(default: Any, text: str, *, may_change: bool = False, **bounds: Any) -> Any:
    """Declare a key with its default and its line of help; `bounds` are pydantic's (`ge`, `lt`).

    `may_change` marks a key that may differ when a run resumes: it does not affect the weights.
    """
    return Field(default, description=text, json_schema_extra={"may_change": may_change}, **bounds)


def changed_keys(old: Section, new: Section, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Return the dotted keys that differ but must not, each with its old and its new value."""
    changed: dict[str, tuple[Any, Any]] = {}
    for name, field in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(after, Section):
            changed |= changed_keys(before, after, f"{prefix}{name}.")
        elif before != after and not may_change(field.json_schema_extra):
            changed[prefix + name] = (before, after)
    return changed


def may_change(extra: Any) -> bool:
    """Return whether a field's `json_schema_extra` marks a key that may change."""
    return isinstance(extra, dict) and bool(extra.get("may_change"))
