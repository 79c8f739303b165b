"""Tags of words."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, string_flaw
from pipeline.corpus.fields.kinds.words import split_words
from pipeline.corpus.fields.label_names import label_index
from pipeline.corpus.fields.word_limit import limit_length
from pipeline.corpus.settings import LabelSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.token_column import TokenColumn
from pipeline.errors import InputError


class TagsField(FieldKind):
    """A list of tags, one per word. Tags of another scheme than BIO and BIOES are converted.

    A number is the name of a tag, or the index of one in `corpus.label_names`.
    """

    Settings = LabelSettings
    by_word = has_names = has_scheme = True
    is_input = False

    def check(self, value: Any) -> Any:
        tags = split_words(value) if isinstance(value, str) else value
        if not isinstance(tags, list) or not tags:
            return SkipReason.NO_TAGS
        texts = [tag.strip() if isinstance(tag, str) else _number_text(tag) for tag in tags]
        if not all(texts):
            return SkipReason.NO_TAGS
        if flaw := string_flaw(texts):
            return flaw
        return TokenColumn(self._named(texts), getattr(tags, "lines", ()))

    def names(self, value: Any) -> Sequence[str]:
        return list(value)

    def encode(self, values: Sequence[Any], context: EncodingContext) -> list[Cells]:
        return [
            limit_length(np.array([context.index[tag] for tag in tags]), self.settings)
            for tags in values
        ]

    @staticmethod
    def arrow_type(field: FieldSpec, vocabulary: int) -> Any:
        return pa.list_(pa.uint16())

    def _named(self, tags: list[str]) -> list[str]:
        """Replace the indices in a row by names, unless one of its tags is a name.

        A "0" among names is therefore a stray tag, and not the name with the index 0.
        """
        names = self._names
        if not names or any(tag in names for tag in tags):
            return tags
        return [self._name(tag) for tag in tags]

    @cached_property
    def _names(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.settings.label_names)}

    def _name(self, tag: str) -> str:
        """Return the name of a tag that may be an index; a tag that is none is returned."""
        names = list(self._names)
        try:
            return names[label_index(tag, names, "")]
        except InputError:
            return tag


def _number_text(tag: Any) -> str:
    """Return an integer as text; empty for a value that is no tag."""
    if isinstance(tag, bool) or not isinstance(tag, (int, float)) or not float(tag).is_integer():
        return ""
    return str(int(tag))
