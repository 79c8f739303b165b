"""Label fields: one label or several labels per row."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, as_text, string_flaw
from pipeline.corpus.skip_reason import SkipReason


class LabelField(FieldKind):
    """A label name. Numbers and booleans are converted to names."""

    def check(self, value: Any) -> Any:
        name = as_text(value)
        return string_flaw([name]) or name or SkipReason.NO_LABEL

    def names(self, value: Any) -> Sequence[str]:
        return [value]

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [Cells([context.index[name]]) for name in values]


class LabelsField(FieldKind):
    """A list of label names, possibly empty, or one string of names joined by `label_separator`.

    Stored indices start at 1 because 0 pads shorter lists.
    """

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
