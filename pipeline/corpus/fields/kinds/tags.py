"""Tags of words."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields import bio_spans
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, string_flaw
from pipeline.corpus.fields.word_limit import limit_length
from pipeline.corpus.settings import LabelSettings
from pipeline.corpus.skip_reason import SkipReason


class TagsField(FieldKind):
    """A list of tags, one per word. If all tags of a row are BIO or BIOES, they must be valid."""

    Settings = LabelSettings
    by_word = has_names = True
    is_input = False

    def check(self, value: Any) -> Any:
        tags = value.split() if isinstance(value, str) else value
        if not isinstance(tags, list) or not tags:
            return SkipReason.NO_TAGS
        if not all(isinstance(tag, str) and tag and not tag.isspace() for tag in tags):
            return SkipReason.NO_TAGS
        if flaw := string_flaw(tags):
            return flaw
        scheme = bio_spans.scheme(tags)
        return SkipReason.NOT_BIO if scheme and bio_spans.check(tags, scheme) else tags

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
