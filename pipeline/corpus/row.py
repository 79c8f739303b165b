"""A raw row, as the readers yield it."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row of an input file. Bytes that are not UTF-8 are kept as lone surrogates."""

    number: int  # from 1; a header line is not counted
    values: (
        dict[str, Any] | None
    )  # by column; None if the row has more or fewer fields than columns
