"""Words of a text."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import (
    Cells,
    EncodingContext,
    FieldKind,
    string_flaw,
    token_list,
)
from pipeline.corpus.fields.word_limit import limit_length
from pipeline.corpus.settings import TextSettings
from pipeline.corpus.skip_reason import SkipReason

NOT_ASCII_SPACE = re.compile(r"[^ \t\n\r\f\v]+")


class WordsField(FieldKind):
    """A list of words, or a string of words separated by the white space of ASCII."""

    Settings = TextSettings
    by_word = tokenized = True

    def check(self, value: Any) -> Any:
        words = split_words(value) if isinstance(value, str) else value
        if not isinstance(words, list) or not words:
            return SkipReason.NO_WORDS
        if not all(isinstance(word, str) and word and not word.isspace() for word in words):
            return SkipReason.NO_WORDS
        return string_flaw(words) or words

    def data(self, value: Any) -> bytes:
        return "\0".join(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        return ["\n".join(value)]

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [
            limit_length(np.array(ids), self.settings)
            for ids in context.encoder.encode_words(values)
        ]

    @staticmethod
    def arrow_type(field: FieldSpec, vocabulary: int) -> Any:
        return token_list(vocabulary)


def split_words(text: str) -> list[str]:
    """Split a text at the white space of ASCII.

    Other white space, such as a no-break space, may be inside a word, as in CoNLL files; it is no
    word of its own.
    """
    return [word for word in NOT_ASCII_SPACE.findall(text) if not word.isspace()]
