"""One raw row, as a reader finds it."""

from typing import Any, NamedTuple


class Row(NamedTuple):
    """A row as a reader finds it. Bytes that are not UTF-8 stand in it as lone surrogates."""

    number: int  # 1 is the first row of the file; a header is not counted
    values: dict[str, Any] | None  # by column; None: not as many fields as columns
