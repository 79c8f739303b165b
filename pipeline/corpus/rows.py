"""One row of raw input: what makes it usable, and the kinds of row that are skipped and counted."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from pipeline.corpus.fields import Field, text_and_label
from pipeline.corpus.settings import CorpusSettings


class Row(NamedTuple):
    """A row as a reader finds it. Bytes that are not UTF-8 stand in it as lone surrogates."""

    number: int  # 1 is the first row of the file; a header is not counted
    values: dict[str, Any] | None  # by column; None: not as many fields as columns


class Example(NamedTuple):
    """A usable row."""

    text: str
    data: bytes  # the text in UTF-8
    label: str | None  # as it stands in the input, without the blanks around it


class Skip(StrEnum):
    """Why a row is not used."""

    FILTERED = "filtered"
    NO_TEXT = "no_text"
    NOT_UTF8 = "not_utf8"
    NUL = "nul"
    NO_LABEL = "no_label"
    WRONG_FIELDS = "wrong_fields"
    NO_TOKENS = "no_tokens"
    TOO_LONG = "too_long"


MEANING = {
    Skip.NO_TEXT: "no text (empty, blank or not a string)",
    Skip.NOT_UTF8: "bytes that are not UTF-8",
    Skip.NUL: "a NUL character",
    Skip.NO_LABEL: "no label",
    Skip.WRONG_FIELDS: "more or fewer fields than the header",
    Skip.NO_TOKENS: "no token left of the text",
    Skip.TOO_LONG: "more than corpus.max_tokens tokens (corpus.long_texts=drop)",
}


@dataclass(frozen=True)
class Wanted:
    """The columns that a corpus is made of."""

    text: str
    label: str | None
    where: dict[str, str]

    @classmethod
    def of(cls, settings: CorpusSettings, fields: tuple[Field, ...]) -> "Wanted":
        text, label = text_and_label(fields)
        return cls(text.column, label.column if label else None, settings.where)

    @property
    def columns(self) -> list[str]:
        named = [self.text, self.label, *self.where]
        return list(dict.fromkeys(column for column in named if column is not None))

    def examine(self, row: Row) -> Example | Skip:
        """The example that the row is, or why it is none."""
        values = row.values
        if values is None:
            return Skip.WRONG_FIELDS
        if any(as_text(values[column]) != value for column, value in self.where.items()):
            return Skip.FILTERED
        text = values[self.text]
        if not isinstance(text, str) or not text or text.isspace():
            return Skip.NO_TEXT
        if "\0" in text:
            return Skip.NUL
        label = None if self.label is None else as_text(values[self.label])
        try:
            data = text.encode()
            (label or "").encode()
        except UnicodeEncodeError:
            return Skip.NOT_UTF8
        if label == "":
            return Skip.NO_LABEL
        return Example(text, data, label)


def as_text(value: Any) -> str:
    """A raw value as CSV would spell it, so that all formats agree; "" if there is none."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:  # NaN differs from itself
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)
