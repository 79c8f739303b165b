"""The bytes of tokens are those of the text, or not told."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, pre_tokenizers
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece
from tokenizers.trainers import BpeTrainer

from pipeline.corpus.tokenization.byte_lengths import token_byte_lengths
from pipeline.corpus.tokenization.special_tokens import END, SPECIAL_TOKENS, UNK, UNKNOWN
from pipeline.corpus.tokenization.tokenizer import TextEncoder

TEXTS = ["the naïve film", "映画 was été  42\t🙂 ", "a ▁ b##c"]
SPECIAL = {token: number for number, token in enumerate(SPECIAL_TOKENS)}
LETTERS = [*SPECIAL_TOKENS, *sorted({c for text in TEXTS for c in text if not c.isspace()})]
NUMBERS = {token: number for number, token in enumerate(LETTERS)}
ByteLevel = pre_tokenizers.ByteLevel


def bpe(step: Any, alphabet: list[str] | None = None, **options: Any) -> Tokenizer:
    tokenizer = Tokenizer(BPE(**options))
    tokenizer.pre_tokenizer = step
    trainer = BpeTrainer(
        vocab_size=300, initial_alphabet=ByteLevel.alphabet() if alphabet is None else alphabet,
        special_tokens=list(SPECIAL_TOKENS), show_progress=False, **options,
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXTS * 9, trainer)
    return tokenizer


def other(model: Any, step: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = step
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def with_word(tokenizer: Tokenizer) -> Tokenizer:
    """One that is no special token, added to the vocabulary as it is spelt."""
    tokenizer.add_tokens([AddedToken("été", normalized=False)])
    return tokenizer


def steps(*each: Any) -> Any:
    return pre_tokenizers.Sequence(list(each))


def counts(tokenizer: Tokenizer) -> list[float]:
    return token_byte_lengths(json.loads(tokenizer.to_str()), tokenizer.get_vocab_size())


EXACT = {
    "byte-level BPE": bpe(ByteLevel(add_prefix_space=False)),
    "with a word added": with_word(bpe(ByteLevel(add_prefix_space=False))),
    "as of Llama 3": bpe(
        steps(
            pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.Digits(individual_digits=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("tokenizer", EXACT.values(), ids=EXACT)
def test_the_bytes_of_tokens_are_those_of_the_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "t.json"))
    of = counts(tokenizer)
    texts = [*TEXTS, "spelt as <unk></s>"]
    for text, encoded in zip(
        texts, TextEncoder(tmp_path / "t.json", 400).encode(texts), strict=True
    ):
        assert sum(of[token] for token in encoded.rows[0]) == len(text.encode())
    assert of[END] == 1


NOT_TOLD = {
    "Unigram": other(Unigram([(c, -1.0) for c in LETTERS], UNK), pre_tokenizers.Metaspace()),
    "WordPiece": other(WordPiece(NUMBERS, unk_token=UNKNOWN), pre_tokenizers.BertPreTokenizer()),
    "BPE of characters": bpe(pre_tokenizers.Metaspace(), alphabet=[], unk_token=UNKNOWN),
    "BPE of few bytes": bpe(ByteLevel(add_prefix_space=False), alphabet=[]),
    "a blank in front": bpe(ByteLevel(add_prefix_space=True)),
    "blanks left out": bpe(
        steps(pre_tokenizers.WhitespaceSplit(), ByteLevel(add_prefix_space=False))
    ),
    "what is left out": bpe(
        steps(pre_tokenizers.Split(" ", "removed"), ByteLevel(add_prefix_space=False))
    ),
    "an end of each word": bpe(ByteLevel(add_prefix_space=False), end_of_word_suffix="</w>"),
    "words without signs": other(
        WordLevel(NUMBERS, unk_token=UNKNOWN), pre_tokenizers.Whitespace()
    ),
}


@pytest.mark.parametrize("tokenizer", NOT_TOLD.values(), ids=NOT_TOLD)
def test_of_other_tokenizers_they_are_not_told(tokenizer: Tokenizer) -> None:
    found = counts(tokenizer)
    assert len(found) == tokenizer.get_vocab_size()
    assert all(map(math.isnan, found))


def test_nor_of_a_word_that_is_not_known() -> None:
    words = {**SPECIAL, "naïve": 4, "film": 5}
    found = counts(other(WordLevel(words, unk_token=UNKNOWN), pre_tokenizers.WhitespaceSplit()))
    assert math.isnan(found[UNK])
    assert found[4:] == [7, 5]
    assert 7 + 5 + found[END] == len("naïve film\n".encode())
