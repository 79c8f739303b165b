"""Input texts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.corpus.column_type import ColumnType, token_list
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import (
    Cell,
    Cells,
    EncodingContext,
    FieldKind,
    scalar_text,
    string_flaw,
)
from pipeline.corpus.settings import TextSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import END


class TextField(FieldKind):
    """A text, which a tokenizer encodes as token ids. Numbers are converted to texts."""

    Settings = TextSettings
    tokenized = combines = True

    def combine(self, values: Mapping[str, Any]) -> Any:
        """Join the texts with `corpus.join`; columns without a text are left out.

        If a value is a list or a map, it is returned, so that the row is skipped.
        """
        for value in values.values():
            if isinstance(value, (list, tuple, dict)) and value:
                return value
        texts = [scalar_text(value) for value in values.values()]
        return self.settings.join.join(text for text in texts if text.strip())

    def check(self, value: Any) -> Any:
        text = scalar_text(value)
        if not text or text.isspace():
            return SkipReason.NO_TEXT
        return string_flaw([text]) or text

    def texts(self, value: Any) -> Iterable[str]:
        return [value]

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        cells = []
        for text in context.encoder.encode(values):
            rows: list[Cell] = [*text.rows]
            if self.field.append_end and rows:
                rows[-1] = np.append(text.rows[-1], np.uint32(END))
            cells.append(Cells(rows, text.long))
        return cells

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return token_list(vocabulary)
