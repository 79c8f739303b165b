"""Characters of words."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.column_type import ColumnType, vector_list
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext
from pipeline.corpus.fields.kinds.words import WordsField
from pipeline.corpus.fields.word_limit import limit_length
from pipeline.corpus.settings import TextSettings
from pipeline.settings import setting


class CharactersField(WordsField):
    """The UTF-8 bytes of each word, padded with 0 to `width`. Longer words keep both ends."""

    class Settings(TextSettings):
        word_bytes: int = setting(
            24,
            "bytes per word for the character input; longer words keep both ends",
            ge=2,
            le=255,
        )

    tokenized = False

    def texts(self, value: Any) -> Iterable[str]:
        return ()

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [limit_length(self._bytes(words), self.settings) for words in values]

    def _bytes(self, words: Sequence[str]) -> NDArray[np.uint8]:
        """Return the bytes of T words [T, width]."""
        width = self.field.width
        tail = width // 2
        padded = []
        for word in words:
            data = word.encode()
            if len(data) > width:
                data = data[: width - tail] + data[len(data) - tail :]
            padded.append(data.ljust(width, b"\0"))
        return np.frombuffer(b"".join(padded), np.uint8).reshape(len(words), width)

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return vector_list("uint8", field.width)
