"""Target texts."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.corpus.column_type import ColumnType, token_list
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, scalar_text, string_flaw
from pipeline.corpus.settings import TokenizerSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import END
from pipeline.settings import setting


class TargetField(FieldKind):
    """A target text, stored with </s> at its end.

    Targets that are too long are dropped, never truncated: the rest would not match its source.
    """

    class Settings(TokenizerSettings):
        target: str = setting(
            "target", "column of the target text, or for captioning of a list of texts"
        )
        max_target_tokens: int = setting(
            0,
            "maximum number of tokens per target; rows with a longer target are skipped; 0: same "
            "as max_tokens",
            ge=0,
            le=65534,
        )

    tokenized = is_target = True
    is_input = False
    settings: Settings

    def check(self, value: Any) -> Any:
        text = scalar_text(value)
        if not text or text.isspace():
            return SkipReason.NO_TARGET
        return string_flaw([text]) or text

    def texts(self, value: Any) -> Iterable[str]:
        return [value]

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        max_tokens = self.settings.max_target_tokens or self.settings.max_tokens
        return [
            Cells(
                [np.append(ids, np.uint32(END)) for ids in text.rows],
                text.long,
                SkipReason.TARGET_TOO_LONG,
            )
            for text in context.encoder.dropping(max_tokens).encode(values)
        ]

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return token_list(vocabulary)
