"""The columns of the sampled rows, and the columns that the user chose."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.corpus.fields.base import as_text
from pipeline.corpus.fields.label_names import label_key
from pipeline.errors import ConfigError
from pipeline.inspection.column import BINARY, Column, Kind
from pipeline.inspection.sampling import Sample

MAX_DEPTH = 4
MAX_KEYS = 30
"""Maximum number of keys of objects that become columns; objects with more keys are values."""


@dataclass
class Table:
    """The columns of a corpus."""

    columns: dict[str, Column]
    samples: list[Sample]
    root: str = "."
    text: list[str] = field(default_factory=list)
    """Columns that the user chose with --text."""
    label: list[str] = field(default_factory=list)
    """Columns that the user chose with --label."""

    @classmethod
    def of(cls, samples: list[Sample], root: str) -> "Table":
        names = list(dict.fromkeys(name for sample in samples for name in sample.columns))
        rows = [row.values for sample in samples for row in sample.rows if row.values is not None]
        columns = {
            name: Column.of(name, values)
            for top in names
            for name, values in _flat(top, [row.get(top) for row in rows], 0)
        }
        return cls(columns, samples, root)

    @property
    def rows(self) -> int:
        """Number of rows that were read."""
        return max((len(column.values) for column in self.columns.values()), default=0)

    @property
    def is_complete(self) -> bool:
        """Whether all rows of all files were read."""
        return all(s.is_exact and s.total == len(s.rows) for s in self.samples)

    @property
    def formats(self) -> set[str]:
        """Formats of the files; an empty text for parallel files."""
        return {sample.format for sample in self.samples}

    def of_kind(self, *kinds: Kind) -> list[Column]:
        return [column for column in self.columns.values() if column.kind in kinds]

    def find(self, name: str) -> Column | None:
        """Return a column by its name or, in CoNLL files, by its negative index."""
        names = list(self.columns)
        is_number = "conll" in self.formats and name[:1] == "-" and name[1:].isdigit()
        if is_number and int(name) >= -len(names):
            return self.columns.get(name) or self.columns[names[int(name)]]
        return self.columns.get(name)

    def choose(self, text: Sequence[str], label: Sequence[str]) -> None:
        """Set the columns that the user chose. Raises ConfigError for one that is missing."""
        for option, names in (("--text", text), ("--label", label)):
            for name in names:
                if not (found := self.find(name)):
                    shown = ", ".join(list(self.columns)[:20])
                    raise ConfigError(f"{option}={name}: no such column; name one of {shown}")
                self.columns.setdefault(name, found)
        self.text, self.label = list(text), list(label)


def _flat(name: str, values: list[Any], depth: int) -> Iterator[tuple[str, list[Any]]]:
    """Yield the columns inside a column of objects, named as `a.b`; any other column unchanged."""
    present = [value for value in values if value is not None]
    objects = [value for value in present if isinstance(value, dict)]
    keys = list(dict.fromkeys(str(key) for value in objects for key in value))
    is_nested = bool(objects) and 2 * len(objects) >= len(present) and depth < MAX_DEPTH
    if not is_nested or len(keys) > MAX_KEYS or _is_value(objects):
        yield name, values
        return
    for key in keys:
        inner = [value.get(key) if isinstance(value, dict) else None for value in values]
        yield from _flat(f"{name}.{key}", inner, depth + 1)


def _is_value(objects: Sequence[Mapping[Any, Any]]) -> bool:
    """Return whether objects are single values: images, or labels with 0 or 1 for each."""
    if all(value.keys() <= {"bytes", "path"} for value in objects):
        return True
    flags = [flag for value in objects for flag in value.values()]
    return bool(flags) and all(
        not isinstance(flag, (list, dict)) and label_key(as_text(flag)) in BINARY for flag in flags
    )
