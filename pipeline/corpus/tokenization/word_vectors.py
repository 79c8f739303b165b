"""Pretrained word vectors in the text format of word2vec and GloVe.

Each line has a word and its values, separated by blanks or tabs; the word may contain blanks, as
in GloVe 840B. An optional first line has the number of words and the number of values per word.
"""

import codecs
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipeline.corpus.readers import content
from pipeline.corpus.tokenization.special_tokens import SPECIAL_TOKENS
from pipeline.errors import InputError

WIDTH_LINES = 100
"""Lines from which the number of values per word is determined."""
BLANKS = b" \t"


class Vectors(NamedTuple):
    """Vectors of the words of a vocabulary that are in a file."""

    ids: NDArray[np.int64]
    """[n] token ids, in ascending order"""
    values: NDArray[np.float32]
    """[n, E] vectors, as in the file"""
    words: int
    """Number of words in the vocabulary."""


def read_vectors(path: Path, width: int, tokenizer: bytes) -> Vectors:
    """Read the vectors of E = `width` values for the words of a word-level tokenizer.json.

    If the file lacks a word, a word that the tokenizer normalizes to it takes its place, such as
    "The" for "the". If several vectors match a word, the first is used. Raises InputError if the
    file is damaged, has a line of another width, or has no word of the vocabulary.
    """
    library = Tokenizer.from_buffer(tokenizer)
    normalizer = library.normalizer
    vocabulary = library.get_vocab(with_added_tokens=False)
    for token in SPECIAL_TOKENS:
        vocabulary.pop(token, None)
    exact: dict[int, NDArray[np.float32]] = {}
    normalized: dict[int, NDArray[np.float32]] = {}
    for number, word, fields in _lines(path, width):
        vectors, token_id = exact, vocabulary.get(word)
        if token_id is None and normalizer:
            vectors, token_id = normalized, vocabulary.get(normalizer.normalize_str(word))
        if token_id is not None and token_id not in vectors:
            vectors[token_id] = _parse_values(fields, f"model.word_vectors={path}: line {number}")
    merged = dict(sorted((normalized | exact).items()))
    if not merged:
        raise InputError(
            f"model.word_vectors={path}: has none of the {len(vocabulary):,} words of the corpus; "
            "use vectors of the same language, with one word and its values per line"
        )
    return Vectors(np.array(list(merged)), np.stack(list(merged.values())), len(vocabulary))


def _lines(path: Path, width: int) -> Iterator[tuple[int, str, Sequence[bytes]]]:
    """Yield (line number, word, values as bytes) of each line whose word is UTF-8."""
    try:
        with path.open("rb") as opened:
            file = content.decompressed(opened, f"model.word_vectors={path}")
            first = [file.readline() for _ in range(WIDTH_LINES)]
            first[0] = first[0].removeprefix(codecs.BOM_UTF8)
            header = _header_width(first[0])
            if header:
                first[0] = b""
            _check_width(_most_common_width(first) or header, width, path)
            for number, line in enumerate(chain(first, file), 1):
                parts = line.rsplit(None, width)  # a word may contain blanks
                if len(parts) == width + 1:
                    try:
                        yield number, parts[0].strip(BLANKS).decode(), parts[1:]
                    except UnicodeDecodeError:
                        continue
                elif parts and not (len(parts) == width and line[:1].isspace()):  # a blank word
                    raise InputError(
                        f"model.word_vectors={path}: line {number}: has {len(parts) - 1} values, "
                        f"but the file has {width} per word; fix the line"
                    )
    except content.READ_ERRORS as error:
        raise InputError(f"model.word_vectors={path}: cannot be read: {error}") from None


def _header_width(line: bytes) -> int:
    """Return the number of values per word that the first line gives, or 0 if it is no header."""
    fields = line.split()
    return int(fields[1]) if len(fields) == 2 and all(map(bytes.isdigit, fields)) else 0


def _most_common_width(lines: Sequence[bytes]) -> int:
    """Return the number of values of most lines, 0 without lines; few words contain blanks."""
    widths = Counter(len(fields) - 1 for fields in map(bytes.split, lines) if fields)
    return max(widths, key=lambda width: (widths[width], -width), default=0)


def _check_width(values: int, width: int, path: Path) -> None:
    """Raises InputError if a file, unless it is empty, has another width than the model."""
    if values and values != width:
        raise InputError(
            f"model.word_vectors={path}: has {values} values per word in its first lines, but "
            f"model.embedding={width}; set model.embedding={values}, or fix the file, in which "
            "each line needs a word and its values"
        )


def _parse_values(fields: Sequence[bytes], where: str) -> NDArray[np.float32]:
    """Parse a vector [E]. Raises InputError if a value is not a finite number."""
    try:
        with np.errstate(over="ignore"):
            values = np.array([float(field) for field in fields], np.float32)
    except ValueError as error:
        raise InputError(f"{where}: {error}; fix it") from None
    if not np.isfinite(values).all():
        raise InputError(f"{where}: has a value that is not finite in float32; fix it")
    return values
