"""What every settings class shares: typed, frozen, no unknown keys, a line of help a key.

Settings are declared beside what they configure (`pipeline/*/settings.py`) and assembled in
`pipeline/config/`.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """One section of a config file."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False
    )


def setting(default: Any, text: str, *, may_change: bool = False, **bounds: Any) -> Any:
    """A key with its default and its line of help; `bounds` are pydantic's (`ge`, `lt`, ...).

    `may_change` marks a key that may differ when a run is resumed: it does not bear on the
    weights that come out.
    """
    return Field(default, description=text, json_schema_extra={"may_change": may_change}, **bounds)


def changed_keys(old: Section, new: Section, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """The dotted keys that differ and must not, each with its old and its new value."""
    changed: dict[str, tuple[Any, Any]] = {}
    for name, field in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if isinstance(after, Section):
            changed |= changed_keys(before, after, f"{prefix}{name}.")
        elif before != after and not may_change(field.json_schema_extra):
            changed[prefix + name] = (before, after)
    return changed


def may_change(extra: Any) -> bool:
    return isinstance(extra, dict) and bool(extra.get("may_change"))
