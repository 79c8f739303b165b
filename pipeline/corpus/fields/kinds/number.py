"""Numbers, one per row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, as_text
from pipeline.corpus.settings import LabelColumn
from pipeline.corpus.skip_reason import SkipReason

MAX_NUMBER = float(np.finfo(np.float32).max)


class NumberField(FieldKind):
    """A number that is finite as float32, in which it is stored, or a string of one."""

    Settings = LabelColumn
    is_input = False
    is_number = True

    def check(self, value: Any) -> Any:
        text = as_text(value)
        if not text:
            return SkipReason.NO_LABEL
        try:
            number = float(text)
        except ValueError:
            return SkipReason.NO_NUMBER
        return number if abs(number) <= MAX_NUMBER else SkipReason.NO_NUMBER

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [Cells([number]) for number in values]

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return ColumnType("float32")
