"""Weights of rows in the training loss."""

from collections.abc import Sequence
from typing import Any

from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, as_text
from pipeline.corpus.fields.kinds.number import MAX_NUMBER
from pipeline.corpus.skip_reason import SkipReason


class WeightField(FieldKind):
    """A finite number of 0 or more, or a string with such a number."""

    is_input = False

    def check(self, value: Any) -> Any:
        try:
            number = float(as_text(value))
        except ValueError:
            return SkipReason.BAD_WEIGHT
        return number if 0 <= number <= MAX_NUMBER else SkipReason.BAD_WEIGHT

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [Cells([number]) for number in values]

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return ColumnType("float32")
