"""Vectors of words that others have trained, in the text format of word2vec and GloVe: a line for
each word, the word and its figures with one blank between; a first line may say how many there are
and how wide.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipeline.corpus.tokenization.special_tokens import SPECIAL_TOKENS
from pipeline.errors import InputError


class Vectors(NamedTuple):
    """Of those words of a vocabulary that a file has."""

    ids: NDArray[np.int64]
    """[n] rising"""
    values: NDArray[np.float32]
    """[n, E] as they stand in the file."""
    words: int
    """How many the vocabulary has."""


def read_vectors(path: Path, width: int, tokenizer: bytes) -> Vectors:
    """The vectors, `width` figures each, for the words of a tokenizer.json of whole words.

    A word that the tokenizer would fold into one of its words, such as The into the, serves that
    one unless the file has it as it is. Of several for one word the first counts. Raises InputError
    for a file that is damaged, has lines of another width, or not one of the words.
    """
    library = Tokenizer.from_buffer(tokenizer)
    normalizer = library.normalizer
    vocabulary = library.get_vocab(with_added_tokens=False)
    for token in SPECIAL_TOKENS:
        vocabulary.pop(token, None)
    own: dict[int, NDArray[np.float32]] = {}
    folded: dict[int, NDArray[np.float32]] = {}
    for number, word, figures in _lines(path, width):
        found, known = own, vocabulary.get(word)
        if known is None and normalizer:
            found, known = folded, vocabulary.get(normalizer.normalize_str(word))
        if known is not None and known not in found:
            found[known] = _floats(figures, f"model.word_vectors={path}: line {number}")
    both = dict(sorted((folded | own).items()))
    if not both:
        raise InputError(
            f"model.word_vectors={path}: has none of the {len(vocabulary):,} words of the corpus; give "
            "vectors of its language, one word and its figures a line"
        )
    return Vectors(np.array(list(both)), np.stack(list(both.values())), len(vocabulary))


def _lines(path: Path, width: int) -> Iterator[tuple[int, str, Sequence[bytes]]]:
    """(number, word, figures) of each line whose word is UTF-8."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                word, *figures = line.rstrip(b" \r\n").split(b" ")
                if number == 1 and len(figures) == 1 and word.isdigit() and figures[0].isdigit():
                    _check(int(figures[0]), width, f"model.word_vectors={path}: line 1")
                elif figures or word:
                    _check(len(figures), width, f"model.word_vectors={path}: line {number}")
                    try:
                        yield number, word.decode(), figures
                    except UnicodeDecodeError:
                        continue
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"model.word_vectors={path}: cannot be read: {error}") from None


def _check(found: int, width: int, where: str) -> None:
    if found != width:
        raise InputError(
            f"{where}: has {found} figures to a word, but model.embedding={width}; set "
            f"model.embedding={found}, or mend the line, in which no word may hold a blank"
        )


def _floats(figures: Sequence[bytes], where: str) -> NDArray[np.float32]:
    """[E]. Raises InputError if one is no finite number."""
    try:
        with np.errstate(over="ignore"):
            values = np.array([float(figure) for figure in figures], np.float32)
    except ValueError as error:
        raise InputError(f"{where}: {error}; mend it") from None
    if not np.isfinite(values).all():
        raise InputError(f"{where}: holds a figure that is not finite in float32; mend it")
    return values
