"""Checked values to rows of the shards, the same in preparing, training on raw files and use."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.corpus.fields.base import Cell, Cells, EncodingContext
from pipeline.corpus.fields.example import RowChecker
from pipeline.corpus.fields.label_names import NameIndex
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.tokenizer import TextEncoder


class EncodedExample(NamedTuple):
    """What became of an example."""

    rows: list[tuple[Cell, ...]]  # a cell for each field; none of an example that is left out
    long: bool  # more tokens than it may have
    skip: SkipReason | None = None  # why there is no row


class ExampleEncoder:
    """By the tokenizers and the names of a dataset."""

    def __init__(
        self,
        wanted: RowChecker,
        encoders: Mapping[str, TextEncoder],
        names: Mapping[str, Sequence[str]],
    ) -> None:
        self.checker = wanted
        fields = [column.field for column in wanted.fields]
        self._names = [NameIndex(names.get(field.name, ())) for field in fields]
        self._tools = [
            EncodingContext(index, encoders.get(field.vocabulary))
            for field, index in zip(fields, self._names, strict=True)
        ]

    def check_names(self, values: Sequence[Any], where: str) -> None:
        """Raises InputError if an example, which stands at `where`, has an unknown name."""
        for column, index, value in zip(self.checker.fields, self._names, values, strict=True):
            for name in column.names(value):
                index.check(name, where)

    def encode(self, examples: Sequence[Sequence[Any]]) -> list[EncodedExample]:
        """The rows of each example, whose names are known."""
        if not examples:
            return []
        values = zip(*examples, strict=True)
        columns = [
            column.encode(of_column, tools)
            for column, tools, of_column in zip(
                self.checker.fields, self._tools, values, strict=True
            )
        ]
        return [_joined(cells) for cells in zip(*columns, strict=True)]


def _joined(cells: Sequence[Cells]) -> EncodedExample:
    """What is one value of an example goes with all of its rows."""
    long = any(cell.long for cell in cells)
    if skips := [cell.skip for cell in cells if cell.skip]:
        return EncodedExample([], long, skips[0])
    count = max(len(cell.rows) for cell in cells)
    lists = [cell.rows if len(cell.rows) == count else cell.rows * count for cell in cells]
    return EncodedExample(list(zip(*lists, strict=True)), long)
