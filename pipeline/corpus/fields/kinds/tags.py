"""Tags of words."""

from collections.abc import Sequence
from typing import Any
from unicodedata import normalize

import numpy as np

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import bio_spans
from pipeline.corpus.fields.base import (
    Cells,
    EncodingContext,
    FieldKind,
    string_flaw,
    token_list,
)
from pipeline.corpus.fields.label_names import NameIndex
from pipeline.corpus.fields.text_lists import items
from pipeline.corpus.fields.word_limit import limit_length
from pipeline.corpus.settings import CorpusSettings, LabelSettings
from pipeline.corpus.skip_reason import SkipReason


class TagsField(FieldKind):
    """A list of tags or of their numbers, one per word: a list, a list as text, or a string of tags
    separated by whitespace. If all tags of a row are BIO or BIOES, they must be valid."""

    Settings = LabelSettings
    by_word = has_names = True
    is_input = False

    def __init__(self, field: FieldSpec, settings: CorpusSettings) -> None:
        super().__init__(field, settings)
        self._names = self.settings.names
        self._index = NameIndex(self._names, self.settings)

    def check(self, value: Any) -> Any:
        tags = items(value, bare=True)
        if isinstance(tags, SkipReason):
            return tags
        if not tags or not all(tag and not tag.isspace() for tag in tags):
            return SkipReason.NO_TAGS
        if flaw := string_flaw(tags):
            return flaw
        named = self._named(tags)
        scheme = bio_spans.scheme(named)
        return SkipReason.NOT_BIO if scheme and bio_spans.check(named, scheme) else tags

    def _named(self, tags: list[str]) -> list[str]:
        """Return the tags as they are named in the end. Unknown tags are not changed."""
        if not self._names:
            return tags if "".join(tags).isascii() else [normalize("NFC", tag) for tag in tags]
        found = [self._index.find(tag) for tag in tags]
        pairs = zip(tags, found, strict=True)
        return [tag if index is None else self._names[index] for tag, index in pairs]

    def names(self, value: Any) -> Sequence[str]:
        return list(value)

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [
            limit_length(np.array([context.index[tag] for tag in tags]), self.settings)
            for tags in values
        ]

    @staticmethod
    def arrow_type(field: FieldSpec, vocabulary: int) -> Any:
        return token_list(vocabulary)
