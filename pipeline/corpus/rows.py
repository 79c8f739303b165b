"""One row of raw input, and what makes it usable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.corpus.column import Column
from pipeline.corpus.columns import as_text, column
from pipeline.corpus.fields import Field
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skips import Skip
from pipeline.errors import InputError


class Row(NamedTuple):
    """A row as a reader finds it. Bytes that are not UTF-8 stand in it as lone surrogates."""

    number: int  # 1 is the first row of the file; a header is not counted
    values: dict[str, Any] | None  # by column; None: not as many fields as columns


class Example(NamedTuple):
    """A usable row: a checked value for each field, in their order."""

    values: tuple[Any, ...]
    data: bytes  # of the first; equal ones are all in one split
    whole: bytes  # of that and of what is to be written; rows are duplicates if it is equal


@dataclass(frozen=True)
class Wanted:
    """What a corpus is made of."""

    fields: tuple[Column, ...]
    where: dict[str, str]

    @classmethod
    def of(cls, settings: CorpusSettings, fields: Sequence[Field]) -> "Wanted":
        return cls(tuple(column(field, settings) for field in fields), settings.where)

    @property
    def columns(self) -> list[str]:
        """Of the raw input."""
        return list(dict.fromkeys([*(each.field.column for each in self.fields), *self.where]))

    def examine(self, row: Row, name: str) -> Example | Skip:
        """The example that the row is, or why it is none. Raises InputError, with the `name` of the
        row's file, for a value that tells of a wrong setting."""
        given = row.values
        if given is None:
            return Skip.WRONG_FIELDS
        if any(as_text(given[name]) != value for name, value in self.where.items()):
            return Skip.FILTERED
        values: list[Any] = []
        for each in self.fields:
            try:
                value = each.check(given[each.field.column])
            except InputError as error:
                raise InputError(f"{name}:{row.number}: {error}") from None
            if isinstance(value, Skip):
                return value
            values.append(value)
        pairs = zip(self.fields, values, strict=True)
        if len({len(value) for each, value in pairs if each.by_word}) > 1:
            return Skip.MISALIGNED
        data = self.fields[0].data(values[0])
        written = [
            each.data(v) for each, v in zip(self.fields, values, strict=True) if each.field.written
        ]
        whole = b"\0".join([len(data).to_bytes(8), data, *written]) if written else data
        return Example(tuple(values), data, whole)
