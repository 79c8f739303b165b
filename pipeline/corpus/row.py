"""A raw row, as the readers yield it."""

from typing import Any, NamedTuple

from pipeline.corpus.skip_reason import SkipReason


class Row(NamedTuple):
    """A row of an input file. Bytes that cannot be decoded are kept as lone surrogates."""

    number: int
    """From 1; a header line is not counted."""
    values: dict[str, Any] | None
    """By column; None if the row cannot be read."""
    line: int = 0
    """Number of the row's first line in the file, from 1; 0 if the format has no lines."""
    skip: SkipReason | None = None
    """Reason why the row cannot be read; None if it has more or fewer fields than columns."""
    detail: str = ""
    """Details on why the row cannot be read."""
    file: str = ""
    """Path of the row's own file in a folder of files."""

    def place(self, file: str) -> str:
        """Return where the row is, for messages: `a.csv, line 3` or `a.parquet, row 2`."""
        if self.file:
            own = self.file.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            return f"{file.rstrip('/')}/{own}"
        return f"{file}, line {self.line}" if self.line else f"{file}, row {self.number}"


class Unreadable(NamedTuple):
    """Result of a reader for a row that it cannot read: the reason, with details."""

    reason: SkipReason
    detail: str = ""
