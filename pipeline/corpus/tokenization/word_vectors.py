"""Pretrained word vectors in the text format of word2vec and GloVe.

Each line has a word and its values, separated by single blanks. An optional first line has the
number of words and the number of values per word.
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
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                word, *fields = line.rstrip(b" \r\n").split(b" ")
                if number == 1 and len(fields) == 1 and word.isdigit() and fields[0].isdigit():
                    _check_width(int(fields[0]), width, f"model.word_vectors={path}: line 1")
                elif fields or word:
                    _check_width(len(fields), width, f"model.word_vectors={path}: line {number}")
                    try:
                        yield number, word.decode(), fields
                    except UnicodeDecodeError:
                        continue
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"model.word_vectors={path}: cannot be read: {error}") from None


def _check_width(values: int, width: int, where: str) -> None:
    if values != width:
        raise InputError(
            f"{where}: has {values} values per word, but model.embedding={width}; set "
            f"model.embedding={values}, or fix the line, in which no word may contain a blank"
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
