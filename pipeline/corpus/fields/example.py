"""One row of raw input, and what makes it usable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import FieldKind, as_text
from pipeline.corpus.fields.kinds import field_kind
from pipeline.corpus.row import Row
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError


class Example(NamedTuple):
    """A usable row: a checked value for each field, in their order."""

    values: tuple[Any, ...]
    data: bytes  # of the first; equal ones are all in one split
    whole: bytes  # of that and of what is to be written; rows are duplicates if it is equal


@dataclass(frozen=True)
class RowChecker:
    """What a corpus is made of."""

    fields: tuple[FieldKind, ...]
    where: dict[str, str]

    @classmethod
    def of(cls, settings: CorpusSettings, fields: Sequence[FieldSpec]) -> "RowChecker":
        return cls(tuple(field_kind(field, settings) for field in fields), settings.filters)

    @property
    def columns(self) -> list[str]:
        """Of the raw input."""
        return list(dict.fromkeys([*(each.field.column for each in self.fields), *self.where]))

    def check(self, row: Row, name: str) -> Example | SkipReason:
        """The example that the row is, or why it is none. Raises InputError, with the `name` of the
        row's file, for a value that tells of a wrong setting."""
        given = row.values
        if given is None:
            return SkipReason.WRONG_FIELDS
        if any(as_text(given[name]) != value for name, value in self.where.items()):
            return SkipReason.FILTERED
        values: list[Any] = []
        for each in self.fields:
            try:
                value = each.check(given[each.field.column])
            except InputError as error:
                raise InputError(f"{name}:{row.number}: {error}") from None
            if isinstance(value, SkipReason):
                return value
            values.append(value)
        pairs = zip(self.fields, values, strict=True)
        if len({len(value) for each, value in pairs if each.by_word}) > 1:
            return SkipReason.MISALIGNED
        data = self.fields[0].data(values[0])
        written = [
            each.data(v)
            for each, v in zip(self.fields, values, strict=True)
            if each.field.is_target
        ]
        whole = b"\0".join([len(data).to_bytes(8), data, *written]) if written else data
        return Example(tuple(values), data, whole)
