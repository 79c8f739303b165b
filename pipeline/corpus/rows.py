"""One row of raw input, and what makes it usable."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from pipeline.corpus.columns import Column, as_text, column
from pipeline.corpus.fields import Field
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skips import Skip


class Row(NamedTuple):
    """A row as a reader finds it. Bytes that are not UTF-8 stand in it as lone surrogates."""

    number: int  # 1 is the first row of the file; a header is not counted
    values: dict[str, Any] | None  # by column; None: not as many fields as columns


class Example(NamedTuple):
    """A usable row: a checked value for each field, in their order."""

    values: tuple[Any, ...]
    data: bytes  # of the first; rows are equal if it is


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

    def examine(self, row: Row) -> Example | Skip:
        """The example that the row is, or why it is none."""
        given = row.values
        if given is None:
            return Skip.WRONG_FIELDS
        if any(as_text(given[name]) != value for name, value in self.where.items()):
            return Skip.FILTERED
        values: list[Any] = []
        for each in self.fields:
            value = each.check(given[each.field.column])
            if isinstance(value, Skip):
                return value
            values.append(value)
        pairs = zip(self.fields, values, strict=True)
        if len({len(value) for each, value in pairs if each.by_word}) > 1:
            return Skip.MISALIGNED
        return Example(tuple(values), self.fields[0].data(values[0]))
