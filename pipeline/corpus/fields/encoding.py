"""Examples to the rows that shards store, by the tokenizers and the names of a dataset."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.corpus.fields.base import Cell, Cells, EncodingContext
from pipeline.corpus.fields.example import RowChecker
from pipeline.corpus.fields.label_names import NameIndex
from pipeline.corpus.fields.unknown_names import OpenNameIndex
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.text_encoder import TextEncoder


class EncodedExample(NamedTuple):
    """The stored form of an example."""

    rows: list[tuple[Cell, ...]]
    """Rows with a cell for each field: several if a long text is split, none if it is skipped."""
    long: bool
    """Whether the text has more tokens than a row may have."""
    skip: SkipReason | None = None
    """Why there is no row."""


class ExampleEncoder:
    """Encodes checked values; the same in preparation, unprepared streaming and inference."""

    def __init__(
        self,
        checker: RowChecker,
        encoders: Mapping[str, TextEncoder],
        names: Mapping[str, Sequence[str]],
        *,
        open_names: bool = False,
    ) -> None:
        """`encoders` are keyed by vocabulary, `names` (of labels or tags) by field.

        With `open_names`, unknown names are allowed; their indices follow those of the known names.
        """
        self._kinds = checker.fields
        specs = [kind.field for kind in self._kinds]
        index_class = OpenNameIndex if open_names else NameIndex
        self._names = [
            index_class(names.get(kind.field.name, ()), kind.settings) for kind in self._kinds
        ]
        self._contexts = [
            EncodingContext(index, encoders.get(spec.vocabulary))
            for spec, index in zip(specs, self._names, strict=True)
        ]

    def check_names(self, values: Sequence[Any], place: str) -> None:
        """Raise InputError, with the example's place in the input, if it has an unknown name."""
        for kind, index, value in zip(self._kinds, self._names, values, strict=True):
            for name in kind.names(value):
                index.check(name, place)

    @property
    def unknown_names(self) -> dict[str, list[str]]:
        """The unknown names so far, by field, in the order of their indices."""
        pairs = zip(self._kinds, self._names, strict=True)
        return {
            kind.field.name: index.unknown_names
            for kind, index in pairs
            if kind.has_names and isinstance(index, OpenNameIndex)
        }

    def unknown_names_of(self, values: Sequence[Any]) -> list[str]:
        """Return the unknown names in an example's values, including duplicates."""
        return [
            name
            for kind, index, value in zip(self._kinds, self._names, values, strict=True)
            if isinstance(index, OpenNameIndex) and index.unknown_names
            for name in kind.names(value)
            if index.is_unknown(name)
        ]

    def encode(self, examples: Sequence[Sequence[Any]]) -> list[EncodedExample]:
        """Encode the values of examples, all of whose names are known."""
        if not examples:
            return []
        columns = [
            kind.encode(values, context)
            for kind, context, values in zip(
                self._kinds, self._contexts, zip(*examples, strict=True), strict=True
            )
        ]
        return [_join(cells) for cells in zip(*columns, strict=True)]


def _join(cells: Sequence[Cells]) -> EncodedExample:
    """Combine the cells of all fields to rows; a field with one cell repeats it in every row."""
    long = any(cell.long for cell in cells)
    if skips := [cell.skip for cell in cells if cell.skip]:
        return EncodedExample([], long, skips[0])
    count = max(len(cell.rows) for cell in cells)
    lists = [cell.rows if len(cell.rows) == count else cell.rows * count for cell in cells]
    return EncodedExample(list(zip(*lists, strict=True)), long)
