"""Numbers, one per row."""

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, as_text
from pipeline.corpus.settings import LabelColumn
from pipeline.corpus.skip_reason import SkipReason


class NumberField(FieldKind):
    """A finite number, or a string of one. Stored as float32."""

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
        return number if math.isfinite(number) else SkipReason.NO_NUMBER

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [Cells([number]) for number in values]

    @staticmethod
    def arrow_type(field: FieldSpec, vocabulary: int) -> Any:
        return pa.float32()
