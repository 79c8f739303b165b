"""Words of a text."""

from collections.abc import Iterable, Sequence
from typing import Any

from pipeline.corpus.column_type import ColumnType, token_list
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, string_flaw
from pipeline.corpus.fields.text_lists import items
from pipeline.corpus.fields.word_limit import limit_length
from pipeline.corpus.settings import TextSettings
from pipeline.corpus.skip_reason import SkipReason


class WordsField(FieldKind):
    """A list of words, a list as a string, or a string of words separated by ASCII whitespace."""

    Settings = TextSettings
    by_word = tokenized = True

    def check(self, value: Any) -> Any:
        words = items(value)
        if isinstance(words, SkipReason):
            return words
        if not words or not all(word and not word.isspace() for word in words):
            return SkipReason.NO_WORDS
        return string_flaw(words) or words

    def data(self, value: Any) -> bytes:
        return "\0".join(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        return ["\n".join(value)]

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [limit_length(ids, self.settings) for ids in context.encoder.encode_words(values)]

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return token_list(vocabulary)
