"""A raw row, as the readers yield it."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row of an input file. Bytes that are not UTF-8 are kept as lone surrogates."""

    number: int  # from 1; a header line is not counted
    values: (
        dict[str, Any] | None
    )  # by column; None if the row has more or fewer fields than columns
    line: int = 0
    """Number of the row's first line in the file, from 1; 0 if the format has no lines."""

    def place(self, file: str) -> str:
        """Return where the row is, for messages: `a.csv, line 3` or `a.parquet, row 2`."""
        return f"{file}, line {self.line}" if self.line else f"{file}, row {self.number}"
