"""Labels, one per row."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, as_text, string_flaw
from pipeline.corpus.settings import LabelSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError


class LabelField(FieldKind):
    """A label name, or a list of one. Numbers and booleans are converted to names."""

    Settings = LabelSettings
    has_names = has_one_name = True
    is_input = False

    def check(self, value: Any) -> Any:
        if isinstance(value, list):
            if len(value) > 1:
                names = ", ".join(map(repr, map(as_text, value)))
                raise InputError(
                    f"column {self.field.column!r} has {len(value)} labels ({names}), but this "
                    "task needs one per row; use task.name=multilabel"
                )
            value = value[0] if value else None
        name = as_text(value)
        return string_flaw([name]) or name or SkipReason.NO_LABEL

    def names(self, value: Any) -> Sequence[str]:
        return [value]

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [Cells([context.index[name]]) for name in values]

    @staticmethod
    def arrow_type(field: FieldSpec, vocabulary: int) -> Any:
        return pa.int32()
