"""Fields with one item per word: the words, their characters and their tags."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.fields import bio_spans
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, string_flaw
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason


class WordsField(FieldKind):
    """A list of words, or a string of words separated by whitespace."""

    by_word = True

    def check(self, value: Any) -> Any:
        words = value.split() if isinstance(value, str) else value
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


class CharactersField(WordsField):
    """The UTF-8 bytes of each word, padded with 0 to `width`. Longer words keep both ends."""

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


class TagsField(FieldKind):
    """A list of tags, one per word. If all tags of a row are BIO or BIOES, they must be valid."""

    by_word = True

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


def limit_length(cell: NDArray[Any], settings: CorpusSettings) -> Cells:
    """Truncate, split or drop a cell of more than `max_tokens` items, as `TextEncoder` does."""
    max_tokens = settings.max_tokens
    if len(cell) <= max_tokens:
        return Cells([cell])
    if settings.overflow == "drop":
        return Cells([], True)
    if settings.overflow == "split":
        return Cells(list(np.array_split(cell, -(-len(cell) // max_tokens))), True)
    head = {"start": max_tokens, "both": max_tokens // 2, "end": 0}[settings.truncation_side]
    return Cells([np.concatenate([cell[:head], cell[len(cell) - max_tokens + head :]])], True)
