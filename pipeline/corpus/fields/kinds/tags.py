"""Tags of words."""

from collections.abc import Sequence
from typing import Any
from unicodedata import normalize

import numpy as np

from pipeline.corpus.column_type import ColumnType, token_list
from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, string_flaw
from pipeline.corpus.fields.label_names import NameIndex, is_number, label_key
from pipeline.corpus.fields.text_lists import items
from pipeline.corpus.fields.word_limit import limit_length
from pipeline.corpus.settings import CorpusSettings, LabelSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.token_column import TokenColumn


class TagsField(FieldKind):
    """A list of tags, one per word: a list, a list as a string, or a string of tags separated by
    ASCII whitespace. Tags of schemes other than BIO and BIOES are converted.

    A number is the name of a tag, or the index of one in `corpus.label_names`.
    """

    Settings = LabelSettings
    by_word = has_names = has_scheme = True
    is_input = False

    def __init__(self, field: FieldSpec, settings: CorpusSettings) -> None:
        super().__init__(field, settings)
        self._names = self.settings.names
        self._known = {*self._names}
        self._index = NameIndex(self._names, self.settings)

    def check(self, value: Any) -> Any:
        tags = items(value, bare=True)
        if isinstance(tags, SkipReason):
            return tags
        texts = [tag.strip() for tag in tags]
        if not tags or not all(texts):
            return SkipReason.NO_TAGS
        if flaw := string_flaw(texts):
            return flaw
        return TokenColumn(self._named(texts), getattr(tags, "lines", ()))

    def _named(self, tags: list[str]) -> list[str]:
        """Return the names of tags. Unknown tags are not changed.

        Numbers are replaced by names unless a tag of the row is a name already: a "0" among names
        is a stray tag.
        """
        if not self._names:
            return tags if "".join(tags).isascii() else [normalize("NFC", tag) for tag in tags]
        has_name = any(tag in self._known for tag in tags)
        return [self._name(tag, is_number_allowed=not has_name) for tag in tags]

    def _name(self, tag: str, *, is_number_allowed: bool) -> str:
        index = self._index.find(tag)
        if index is None or (is_number(label_key(tag)) and not is_number_allowed):
            return tag
        return self._names[index]

    def names(self, value: Any) -> Sequence[str]:
        return list(value)

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [
            limit_length(np.array([context.index[tag] for tag in tags]), self.settings)
            for tags in values
        ]

    @staticmethod
    def column_type(field: FieldSpec, vocabulary: int) -> ColumnType:
        return token_list(vocabulary)
