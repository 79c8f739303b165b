"""One column of a sentence."""

from collections.abc import Iterable, Sequence


class TokenColumn(list[str]):
    """The fields of one column for all tokens of a sentence, and the line of each in the file."""

    def __init__(self, fields: Iterable[str], lines: Sequence[int] = ()) -> None:
        super().__init__(fields)
        self.lines = lines
