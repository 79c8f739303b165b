"""Each word gets its own vector, or the vector of a word that the tokenizer normalizes to it."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from pipeline.corpus.tokenization.tokenizer import train
from pipeline.corpus.tokenization.word_vectors import Vectors, read_vectors
from pipeline.errors import InputError
from tests.helpers.settings import corpus_settings

WORDS = "the\nfilm\nnaïve\nlonely\nNew\u00a0York"
TEXT = """film 1 2 3
The 4 5 6
the 7 8 9
THE -1 -1 -1
nai\u0308ve .5 -0.25 1e-2
other 1 1 1
new\u00a0york 0 0 1
<unk> 9 9 9
<pad> 9 9 9
film 5 5 5
"""
FOUND = {
    "film": [1, 2, 3],
    "the": [7, 8, 9],
    "naïve": [0.5, -0.25, 0.01],
    "new\u00a0york": [0, 0, 1],
}


def tokenizer(words: str = WORDS, *, lowercase: bool = True) -> bytes:
    settings = corpus_settings(input=["a"], shards="x", lowercase=lowercase)
    return train([words], settings, words=True).encode()


def by_word(vectors: Vectors, data: bytes) -> dict[str, list[float]]:
    vocabulary = Tokenizer.from_buffer(data).get_vocab()
    words = {token_id: word for word, token_id in vocabulary.items()}
    assert vectors.ids.tolist() == sorted(set(vectors.ids.tolist()))
    assert vectors.values.dtype == np.float32
    pairs = zip(vectors.ids.tolist(), vectors.values.tolist(), strict=True)
    return {words[token_id]: values for token_id, values in pairs}


VARIANTS = {
    "GloVe": lambda text: text,
    "word2vec": lambda text: "10 3\n" + text.replace("\n", " \n"),
    "CRLF": lambda text: text.replace("\n", "\r\n"),
    "no final line end": lambda text: text.rstrip("\n") + "\n\n",
    "a word that is not UTF-8": lambda text: text + "caf\udce9 1 2 3\n",
    "words with blanks": lambda text: (
        ". . . 1 2 3\nat name@domain.com 1 2 3\n" + text + "of 1 4 5 6"
    ),
    "blank words": lambda text: text + "  7 7 7\n\x0b 7 7 7\n",
    "byte-order mark": lambda text: "\ufeff" + text,
    "byte-order mark and header": lambda text: "\ufeff10 3\n" + text,
    "a wrong header": lambda text: "10 300\n" + text,
    "tabs": lambda text: text.replace(" ", "\t"),
    "a tab after the word": lambda text: re.sub(r"^(\S+) ", r"\1\t", text, flags=re.M),
    "repeated separators": lambda text: text.replace(" ", "  "),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("ending", ["txt", "vec.gz"])
def test_words_get_their_vectors(variant: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"vectors.{ending}"
    data = VARIANTS[variant](TEXT).encode("utf-8", "surrogateescape")
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    found = read_vectors(path, 3, tokenizer())
    assert found.words == 5  # without special tokens
    expected = {word: pytest.approx(values) for word, values in FOUND.items()}
    assert by_word(found, tokenizer()) == expected


def test_a_word_without_a_vector_gets_that_of_a_variant(tmp_path: Path) -> None:
    """Wherever the variant is in the file; the first of several variants."""
    path = tmp_path / "a.txt"
    path.write_text("The 1\nthe 2\nFILM 3\nFilm 4\n")
    assert by_word(read_vectors(path, 1, tokenizer()), tokenizer()) == {"the": [2], "film": [3]}


def test_variants_are_not_used_if_the_tokenizer_keeps_case(tmp_path: Path) -> None:
    path, data = tmp_path / "a.txt", tokenizer("The\nfilm", lowercase=False)
    path.write_text("the 1\nThe 2\nFILM 3\n")
    vectors = read_vectors(path, 1, data)
    assert (by_word(vectors, data), vectors.words) == ({"The": [2]}, 2)


@pytest.mark.parametrize(
    "text, message",
    [
        ("film 1 2\n", "has 2 values per word in .*, but .*=3; set model.embedding=2,"),
        ("7 2\nfilm 1 2\n", "has 2 values per word in .*, but .*=3; set model.embedding=2,"),
        ("7 2\n", "has 2 values per word in .*, but .*=3; set model.embedding=2,"),
        (". . . 1 2\nthe 1 2\nfilm 1 2\n", "has 2 values .* set model.embedding=2,"),
        ("the\t1\t2\n\nfilm\t1\t2\n", "has 2 values .* set model.embedding=2,"),
        ("the 1 2 3 4\nfilm 1 2 3 4\n", "has 4 values .* set model.embedding=4,"),
        ("film 1 2 3\n\nthe 1 2 3\nx 1 2\n", "line 4: has 2 values, but the file has 3 per word"),
        ("other a b c\nfilm 1 x 3\n", "line 2: could not convert string to float: b'x'; fix it"),
        ("film 1 nan 3\n", "line 1: has a value that is not finite"),
        ("film 1 2 1e60\n", "line 1: has a value that is not finite"),
        ("other 1 2 3\n", "has none of the 5 words of the corpus"),
        ("", "has none of the 5 words of the corpus"),
    ],
)
def test_errors_name_the_file_and_the_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(text)
    with pytest.raises(InputError, match=rf"^model\.word_vectors=\S+a\.txt: {message}"):
        read_vectors(path, 3, tokenizer())


@pytest.mark.parametrize("data", [None, gzip.compress(TEXT.encode())[:-12]])
def test_an_unreadable_file_is_an_error(data: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.gz"
    if data:
        path.write_bytes(data)
    with pytest.raises(InputError, match=r"a\.gz: cannot be read: "):
        read_vectors(path, 3, tokenizer())


def test_the_first_lines_may_be_words_with_blanks(tmp_path: Path) -> None:
    """The width is that of most lines at the beginning, wherever the longer ones are."""
    path = tmp_path / "a.txt"
    odd = ". . . 1 2\n. . 1 2\nto name@domain.com 1 2\n"
    path.write_text(odd + "".join(f"w{n} 1 2\n" for n in range(200)) + "film 3 4\n")
    assert by_word(read_vectors(path, 2, tokenizer()), tokenizer()) == {"film": [3, 4]}
    with pytest.raises(InputError, match=r"has 2 values .*; set model\.embedding=2,"):
        read_vectors(path, 4, tokenizer())
