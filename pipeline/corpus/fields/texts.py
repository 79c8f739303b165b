"""Text fields, which a tokenizer encodes as token ids."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, string_flaw
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import END


class TextField(FieldKind):
    """A text."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or not value or value.isspace():
            return SkipReason.NO_TEXT
        return string_flaw([value]) or value

    def texts(self, value: Any) -> Iterable[str]:
        return [value]

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        cells = []
        for text in context.encoder.encode(values):
            if self.field.append_end and text.rows:
                text.rows[-1].append(END)
            cells.append(Cells([np.array(ids) for ids in text.rows], text.long))
        return cells


class TargetField(TextField):
    """A target text, stored with </s> at its end.

    Targets that are too long are dropped, never truncated: the rest would not match its source.
    """

    def check(self, value: Any) -> Any:
        checked = super().check(value)
        return SkipReason.NO_TARGET if checked is SkipReason.NO_TEXT else checked

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        max_tokens = self.settings.max_target_tokens or self.settings.max_tokens
        return [
            Cells(
                [np.array([*ids, END]) for ids in text.rows], text.long, SkipReason.TARGET_TOO_LONG
            )
            for text in context.encoder.dropping(max_tokens).encode(values)
        ]


class TargetsField(TargetField):
    """Alternative target texts, such as the captions of an image: a string or a list of strings.

    They are stored as one list of tokens, with </s> after each text. At most the first
    `corpus.captions` texts are used.
    """

    def check(self, value: Any) -> Any:
        texts = value if isinstance(value, list) else [value]
        texts = texts[: self.settings.captions]
        checked = [super(TargetsField, self).check(text) for text in texts]
        skips = (text for text in checked if isinstance(text, SkipReason))
        return next(skips, checked or SkipReason.NO_TARGET)

    def data(self, value: Any) -> bytes:
        return "\0".join(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        return list(value)

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        cells = iter(super().encode([text for texts in values for text in texts], context))
        return [_concatenate(list(islice(cells, len(texts)))) for texts in values]


def _concatenate(cells: Sequence[Cells]) -> Cells:
    """Concatenate the texts of one value; if one of them is dropped, so is the value."""
    if dropped := next((text for text in cells if not text.rows), None):
        return dropped
    return Cells([np.concatenate([text.rows[0] for text in cells])])
