"""The text of a config with a comment for each key."""

import re
import shlex
import textwrap
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from pydantic.fields import FieldInfo

from pipeline import components
from pipeline.corpus.settings import CorpusSettings
from pipeline.inspection.inspection import Inspection
from pipeline.inspection.keys import Key

WIDTH = 80
MAX_HELP = 100
ORDER = (
    "input", "root", "format", "delimiter", "quoting", "encoding", "columns", "text", "text_pair",
    "label", "label_names", "label_separator", "target", "image", "image_root", "image_size",
    "channels", "max_tokens", "validation", "test", "max_skipped_ratio",
)  # fmt: skip
"""Order of the keys of the section `corpus`; others follow."""
TASK_HELP = "kind of task (docs/tasks.md)"


def config_text(inspection: Inspection, command: str = "") -> str:
    """Return the YAML of a config that reads the files of an inspection.

    The same files give the same text. The first line has the `command` if it is given.
    """
    proposal, lines = inspection.proposal, list[str]()
    if command:
        lines += _comment(f"Made by: {command}", 0)
    lines += ["task:", *_entry("name", Key(proposal.task, proposal.why), TASK_HELP)]
    for line in proposal.alternatives:
        lines += _comment(f"Or: {line}", 2)
    lines += ["", "corpus:"]
    for name in sorted(inspection.keys, key=_position):
        lines += _entry(name, inspection.keys[name], key_help(name))
    if inspection.hints:
        lines += ["", "  # Not used yet. Remove the first # of a line to use it:"]
    for name, key in inspection.hints.items():
        lines += _hint(name, key)
    return "\n".join(lines) + "\n"


def overrides(inspection: Inspection) -> list[str]:
    """Return the config as arguments of a command, quoted for a shell."""
    found = [f"task.name={inspection.proposal.task}"]
    names = sorted(inspection.keys, key=_position)
    found += [f"corpus.{name}={as_yaml(inspection.keys[name].value)}" for name in names]
    return [shlex.quote(argument) for argument in found]


def as_yaml(value: Any) -> str:
    """Return a value as YAML in one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**9)
    return text.removesuffix("...\n").strip()


def key_help(name: str) -> str:
    """Return the first part of the help text of a key of the section `corpus`."""
    field = _fields().get(name)
    text = field.description or "" if field else ""
    text = re.split(r"[;:(]| such as |, or parallel|, or for ", text)[0].strip()
    return textwrap.shorten(text, MAX_HELP, placeholder=" ...").rstrip(",")


@cache
def _fields() -> dict[str, FieldInfo]:
    """Return the keys of the section `corpus`, with those of all readers and field kinds."""
    fields = dict(CorpusSettings.model_fields)
    for kind in ("reader", "field"):
        for name in components.names(kind):
            for key, field in components.load(kind, name).Settings.model_fields.items():
                fields.setdefault(key, field)
    fields.setdefault("text_pair", FieldInfo(description="column of the second text"))
    return fields


def _entry(name: str, key: Key, help_text: str) -> Iterator[str]:
    """Yield the lines of a key: its comment and its value."""
    comment = help_text[:1].upper() + help_text[1:]
    if key.why:
        comment = f"{comment}: {key.why}" if comment else key.why
    yield from _comment(comment, 2)
    yield f"  {name}: {as_yaml(key.value)}"


def _hint(name: str, key: Key) -> Iterator[str]:
    """Yield the lines of a key that is not used; a mapping has a line for each entry."""
    if not isinstance(key.value, dict):
        yield f"  # {name}: {as_yaml(key.value)}  # {key.why}"
        return
    yield f"  # {name}:  # {key.why}"
    for entry, value in key.value.items():
        yield f"  #   {as_yaml({entry: value})[1:-1]}"


def _comment(text: str, indent: int) -> list[str]:
    prefix = " " * indent + "# "
    return textwrap.wrap(
        " ".join(text.split()), WIDTH, initial_indent=prefix, subsequent_indent=prefix,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _position(name: str) -> tuple[int, str]:
    return (ORDER.index(name) if name in ORDER else len(ORDER), name)
