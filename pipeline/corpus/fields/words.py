"""Fields with one item for each word: words, their characters and their tags."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.corpus.fields import bio_spans
from pipeline.corpus.fields.base import Cells, EncodingContext, FieldKind, string_flaw
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason


class WordsField(FieldKind):
    """A list of words, or a string of them with blanks between."""

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

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        return [cut(np.array(ids), self.settings) for ids in tools.encoder.encode_words(values)]


class CharactersField(WordsField):
    """The UTF-8 bytes of each word, 0 behind a short one; of a long one its two ends."""

    def texts(self, value: Any) -> Iterable[str]:
        return ()

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        return [cut(self._bytes(words), self.settings) for words in values]

    def _bytes(self, words: Sequence[str]) -> NDArray[np.uint8]:
        """[T, width]"""
        width = self.field.width
        ends = width // 2
        found = []
        for word in words:
            data = word.encode()
            if len(data) > width:
                data = data[: width - ends] + data[len(data) - ends :]
            found.append(data.ljust(width, b"\0"))
        return np.frombuffer(b"".join(found), np.uint8).reshape(len(words), width)


class TagsField(FieldKind):
    """A list of names, one a word. If all of a row's are BIO or BIOES they must be well formed."""

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

    def encode(self, values: Sequence[Any], tools: EncodingContext) -> list[Cells]:
        return [cut(np.array([tools.index[tag] for tag in tags]), self.settings) for tags in values]


def cut(cell: NDArray[Any], settings: CorpusSettings) -> Cells:
    """A cell with an item a word to cells of at most `max_tokens` items, as texts are cut."""
    most, mode = settings.max_tokens, settings.overflow
    if len(cell) <= most:
        return Cells([cell])
    if mode == "drop":
        return Cells([], True)
    if mode == "split":
        return Cells(list(np.array_split(cell, -(-len(cell) // most))), True)
    first = {"start": most, "both": most // 2, "end": 0}[settings.truncation_side]
    return Cells([np.concatenate([cell[:first], cell[len(cell) - most + first :]])], True)
