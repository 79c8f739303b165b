"""Fields of text, which a tokenizer turns into token ids."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, string_flaw
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import END


class TextField(FieldKind):
    """A string, which is tokenized."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or not value or value.isspace():
            return SkipReason.NO_TEXT
        return string_flaw([value]) or value

    def texts(self, value: Any) -> Iterable[str]:
        return [value]

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        found = []
        for text in tools.encoder.encode(values):
            if self.field.append_end and text.rows:
                text.rows[-1].append(END)
            found.append(Cells([np.array(ids) for ids in text.rows], text.long))
        return found


class TargetField(TextField):
    """A string that is to be written, and the token for the end behind it. It is never cut: what is
    left of it would not say what its source says."""

    def check(self, value: Any) -> Any:
        found = super().check(value)
        return SkipReason.NO_TARGET if found is SkipReason.NO_TEXT else found

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        most = self.settings.max_target_tokens or self.settings.max_tokens
        return [
            Cells(
                [np.array([*ids, END]) for ids in text.rows], text.long, SkipReason.TARGET_TOO_LONG
            )
            for text in tools.encoder.dropping(most).encode(values)
        ]


class TargetsField(TargetField):
    """Texts each of which would be right, a string or a list of them: all are one list of tokens,
    in which the token for the end stands behind each. Of more than `captions` the first count."""

    def check(self, value: Any) -> Any:
        texts = value if isinstance(value, list) else [value]
        found = [super(TargetsField, self).check(text) for text in texts[: self.settings.captions]]
        return next(
            (text for text in found if isinstance(text, SkipReason)), found or SkipReason.NO_TARGET
        )

    def data(self, value: Any) -> bytes:
        return "\0".join(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        return list(value)

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        each = iter(super().encode([text for texts in values for text in texts], tools))
        return [_in_one(list(islice(each, len(texts)))) for texts in values]


def _in_one(parts: Sequence[Cells]) -> Cells:
    """A cell of all parts, unless one of them has none."""
    if bare := next((part for part in parts if not part.rows), None):
        return bare
    return Cells([np.concatenate([part.rows[0] for part in parts])])
