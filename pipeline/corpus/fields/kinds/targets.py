"""Alternative target texts."""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from pipeline.corpus.fields.base import Cells, EncodingContext
from pipeline.corpus.fields.kinds.target import TargetField
from pipeline.corpus.skip_reason import SkipReason
from pipeline.settings import setting


class TargetsField(TargetField):
    """Alternative target texts, such as the captions of an image: a string or a list of strings.

    They are stored as one list of tokens, with </s> after each text. At most the first
    `corpus.captions` texts are used.
    """

    class Settings(TargetField.Settings):
        captions: int = setting(
            5, "maximum number of captions per image; the first ones are used", ge=1
        )

    settings: Settings

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
