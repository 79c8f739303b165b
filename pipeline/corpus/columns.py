"""From raw values to what the shards hold of them: a class for each kind of field.

To add a kind, write its class, put it into KINDS, and say in `arrow` what its cells are.
"""

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.corpus import spans
from pipeline.corpus.column import Cells, Column, Tools
from pipeline.corpus.fields import Field
from pipeline.corpus.pictured import Features, PixelRows, Steps
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skips import Skip
from pipeline.corpus.special import END

if TYPE_CHECKING:
    pass  # training reads shards without the library


class Text(Column):
    """A string, which is tokenised."""

    def check(self, value: Any) -> Any:
        if not isinstance(value, str) or not value or value.isspace():
            return Skip.NO_TEXT
        return _flaw([value]) or value

    def texts(self, value: Any) -> Iterable[str]:
        return [value]

    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
        found = []
        for text in tools.encoder.encode(values):
            if self.field.ends and text.rows:
                text.rows[-1].append(END)
            found.append(Cells([np.array(ids) for ids in text.rows], text.long))
        return found


class Target(Text):
    """A string that is to be written, and the token for the end behind it. It is never cut: what is
    left of it would not say what its source says."""

    def check(self, value: Any) -> Any:
        found = super().check(value)
        return Skip.NO_TARGET if found is Skip.NO_TEXT else found

    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
        most = self.settings.max_target_tokens or self.settings.max_tokens
        return [
            Cells([np.array([*ids, END]) for ids in text.rows], text.long, Skip.TARGET_TOO_LONG)
            for text in tools.encoder.dropping(most).encode(values)
        ]


class Targets(Target):
    """Texts each of which would be right, a string or a list of them: all are one list of tokens,
    in which the token for the end stands behind each. Of more than `captions` the first count."""

    def check(self, value: Any) -> Any:
        texts = value if isinstance(value, list) else [value]
        found = [super(Targets, self).check(text) for text in texts[: self.settings.captions]]
        return next((text for text in found if isinstance(text, Skip)), found or Skip.NO_TARGET)

    def data(self, value: Any) -> bytes:
        return "\0".join(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        return list(value)

    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
        each = iter(super().encode([text for texts in values for text in texts], tools))
        return [_in_one(list(islice(each, len(texts)))) for texts in values]


class Words(Column):
    """A list of words, or a string of them with blanks between."""

    by_word = True

    def check(self, value: Any) -> Any:
        words = value.split() if isinstance(value, str) else value
        if not isinstance(words, list) or not words:
            return Skip.NO_WORDS
        if not all(isinstance(word, str) and word and not word.isspace() for word in words):
            return Skip.NO_WORDS
        return _flaw(words) or words

    def data(self, value: Any) -> bytes:
        return "\0".join(value).encode()

    def texts(self, value: Any) -> Iterable[str]:
        return ["\n".join(value)]

    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
        return [cut(np.array(ids), self.settings) for ids in tools.encoder.encode_words(values)]


class Characters(Words):
    """The UTF-8 bytes of each word, 0 behind a short one; of a long one its two ends."""

    def texts(self, value: Any) -> Iterable[str]:
        return ()

    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
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


class Tags(Column):
    """A list of names, one a word. If all of a row's are BIO or BIOES they must be well formed."""

    by_word = True

    def check(self, value: Any) -> Any:
        tags = value.split() if isinstance(value, str) else value
        if not isinstance(tags, list) or not tags:
            return Skip.NO_TAGS
        if not all(isinstance(tag, str) and tag and not tag.isspace() for tag in tags):
            return Skip.NO_TAGS
        if flaw := _flaw(tags):
            return flaw
        scheme = spans.scheme(tags)
        return Skip.NOT_BIO if scheme and spans.check(tags, scheme) else tags

    def names(self, value: Any) -> Sequence[str]:
        return list(value)

    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
        return [cut(np.array([tools.index[tag] for tag in tags]), self.settings) for tags in values]


class Label(Column):
    """A name; a number or a truth value is one too."""

    def check(self, value: Any) -> Any:
        name = as_text(value)
        return _flaw([name]) or name or Skip.NO_LABEL

    def names(self, value: Any) -> Sequence[str]:
        return [value]

    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
        return [Cells([tools.index[name]]) for name in values]


class Labels(Column):
    """A list of names, of which there may be none, or a string of them with `label_separator`
    between. Their indices are counted from 1, as lists are filled up with 0."""

    def check(self, value: Any) -> Any:
        if isinstance(value, str):
            value = value.split(self.settings.label_separator)
        elif value is None:
            return Skip.NO_LABEL
        names = [as_text(name) for name in (value if isinstance(value, list) else [value])]
        names = list(dict.fromkeys(name for name in names if name))
        return _flaw(names) or names

    def names(self, value: Any) -> Sequence[str]:
        return list(value)

    def encode(self, values: Sequence[Any], tools: Tools) -> list[Cells]:
        return [Cells([np.array([tools.index[n] + 1 for n in names], int)]) for names in values]


KINDS: dict[str, type[Column]] = {
    "text": Text,
    "target": Target,
    "targets": Targets,
    "words": Words,
    "characters": Characters,
    "tags": Tags,
    "label": Label,
    "labels": Labels,
    "steps": Steps,
    "pixels": PixelRows,
    "features": Features,
}


def column(field: Field, settings: CorpusSettings) -> Column:
    return KINDS[field.kind](field, settings)


def arrow(field: Field, vocabulary: int) -> Any:
    """The type of a field's cells, given the size of its vocabulary."""
    token: Any = pa.uint16() if token_bytes(vocabulary) == 2 else pa.uint32()
    return {
        "text": pa.list_(token),
        "target": pa.list_(token),
        "targets": pa.list_(token),
        "words": pa.list_(token),
        "characters": pa.list_(pa.list_(pa.uint8(), max(field.width, 1))),
        "tags": pa.list_(pa.uint16()),
        "label": pa.int32(),
        "labels": pa.list_(pa.uint16()),
        "steps": pa.list_(pa.list_(pa.uint8(), max(field.width, 1))),
        "pixels": pa.list_(pa.list_(pa.uint8(), max(field.width, 1))),
        "features": pa.list_(pa.list_(pa.float32(), max(field.width, 1))),
    }[field.kind]


def _in_one(parts: Sequence[Cells]) -> Cells:
    """A cell of all parts, unless one of them has none."""
    if bare := next((part for part in parts if not part.rows), None):
        return bare
    return Cells([np.concatenate([part.rows[0] for part in parts])])


def cut(cell: NDArray[Any], settings: CorpusSettings) -> Cells:
    """A cell with an item a word to cells of at most `max_tokens` items, as texts are cut."""
    most, mode = settings.max_tokens, settings.long_texts
    if len(cell) <= most:
        return Cells([cell])
    if mode == "drop":
        return Cells([], True)
    if mode == "split":
        return Cells(list(np.array_split(cell, -(-len(cell) // most))), True)
    first = {"start": most, "both": most // 2, "end": 0}[settings.keep]
    return Cells([np.concatenate([cell[:first], cell[len(cell) - most + first :]])], True)


def token_bytes(vocabulary: int) -> int:
    return 2 if vocabulary <= 1 << 16 else 4


def as_text(value: Any) -> str:
    """A raw value as CSV would spell it, so that all formats agree; "" if there is none."""
    if isinstance(value, str):
        return value.strip()
    if value is None or value != value:  # NaN differs from itself
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flaw(strings: Iterable[str]) -> Skip | None:
    """What no string may hold."""
    for string in strings:
        if "\0" in string:
            return Skip.NUL
        try:
            string.encode()
        except UnicodeEncodeError:
            return Skip.NOT_UTF8
    return None
