"""Fields of one label or of several."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, as_text, string_flaw
from pipeline.corpus.skip_reason import SkipReason


class LabelField(FieldKind):
    """A name; a number or a truth value is one too."""

    def check(self, value: Any) -> Any:
        name = as_text(value)
        return string_flaw([name]) or name or SkipReason.NO_LABEL

    def names(self, value: Any) -> Sequence[str]:
        return [value]

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        return [Cells([tools.index[name]]) for name in values]


class LabelsField(FieldKind):
    """A list of names, of which there may be none, or a string of them with `label_separator`
    between. Their indices are counted from 1, as lists are filled up with 0."""

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

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        return [Cells([np.array([tools.index[n] + 1 for n in names], int)]) for names in values]
