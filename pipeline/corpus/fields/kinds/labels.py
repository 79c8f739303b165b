"""Labels, several per row."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, as_text, string_flaw
from pipeline.corpus.settings import LabelSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.settings import setting


class LabelsField(FieldKind):
    """A list of label names, possibly empty, or one string of names joined by `label_separator`.

    Stored indices start at 1 because 0 pads shorter lists.
    """

    class Settings(LabelSettings):
        label_separator: str = setting(
            ",", "separator between labels, where a row's labels are one string", min_length=1
        )

    has_names = combines = True
    is_input = False
    settings: Settings

    def combine(self, values: Mapping[str, Any]) -> Any:
        """Return a map from label to 0 or 1, which `check` understands."""
        return dict(values)

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            value = value.split(self.settings.label_separator)
        elif value is None:
            return SkipReason.NO_LABEL
        names = [as_text(name) for name in (value if isinstance(value, list) else [value])]
        names = list(dict.fromkeys(name for name in names if name))
        return string_flaw(names) or names

    def names(self, value: Any) -> Sequence[str]:
        return list(value)

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [
            Cells([np.array([context.index[name] + 1 for name in names], int)]) for names in values
        ]

    @staticmethod
    def arrow_type(field: FieldSpec, vocabulary: int) -> Any:
        return pa.list_(pa.uint16())
