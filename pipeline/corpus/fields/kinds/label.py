"""Labels, one per row."""

from collections.abc import Sequence
from typing import Any

from pipeline.corpus.column_type import ColumnType
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, as_text, string_flaw
from pipeline.corpus.fields.text_lists import parse_list
from pipeline.corpus.settings import LabelSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.errors import InputError


class LabelField(FieldKind):
    """A label name, or a list of one. Numbers, booleans and bytes are converted to names."""

    Settings = LabelSettings
    has_names = has_one_name = True
    is_input = False

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            if value[:1] == "[" and isinstance(found := parse_list(value), list):
                value = self._only(found)
        elif isinstance(value, (list, dict)):
            value = self._only(value)
        name = as_text(value)
        return string_flaw([name]) or name or SkipReason.NO_LABEL

    def names(self, value: Any) -> Sequence[str]:
        return [value]

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [Cells([context.index[name]]) for name in values]

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return ColumnType("int32")

    def _only(self, labels: list[Any] | dict[Any, Any]) -> Any:
        """Return the only item of a list, None if it is empty. Raises InputError otherwise."""
        if isinstance(labels, dict) or len(labels) > 1:
            names = ", ".join(map(repr, map(as_text, labels)))
            found = "a map of labels" if isinstance(labels, dict) else f"{len(labels)} labels"
            raise InputError(
                f"column {self.field.column!r} has {found} ({names}), but this task needs one per "
                "row; set task.name=multilabel"
            )
        return labels[0] if labels else None
