"""Byte lengths of tokens add up to the length of the text, or are unknown."""

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
from pipeline.corpus.tokenization.text_encoder import TextEncoder

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


def with_special_tokens(model: Any, step: Any) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = step
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return tokenizer


def with_word(tokenizer: Tokenizer) -> Tokenizer:
    """Add an ordinary token, which the normalizer does not change."""
    tokenizer.add_tokens([AddedToken("été", normalized=False)])
    return tokenizer


def steps(*pre_tokenizers_: Any) -> Any:
    return pre_tokenizers.Sequence(list(pre_tokenizers_))


def byte_lengths(tokenizer: Tokenizer) -> list[float]:
    return token_byte_lengths(json.loads(tokenizer.to_str()), tokenizer.get_vocab_size())


EXACT = {
    "byte-level BPE": bpe(ByteLevel(add_prefix_space=False)),
    "with a word added": with_word(bpe(ByteLevel(add_prefix_space=False))),
    "like Llama 3": bpe(
        steps(
            pre_tokenizers.Split(" ", "isolated"), pre_tokenizers.Digits(individual_digits=True),
            ByteLevel(add_prefix_space=False, use_regex=False),
        )
    ),
}  # fmt: skip


@pytest.mark.parametrize("tokenizer", EXACT.values(), ids=EXACT)
def test_byte_lengths_add_up_to_the_text(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(str(tmp_path / "t.json"))
    lengths = byte_lengths(tokenizer)
    texts = [*TEXTS, "not special: <unk></s>"]
    encoder = TextEncoder(tmp_path / "t.json", 400)
    for text, encoded in zip(texts, encoder.encode(texts), strict=True):
        assert sum(lengths[token] for token in encoded.rows[0]) == len(text.encode())
    assert lengths[END] == 1


UNKNOWN_LENGTHS = {
    "Unigram": with_special_tokens(
        Unigram([(c, -1.0) for c in LETTERS], UNK), pre_tokenizers.Metaspace()
    ),
    "WordPiece": with_special_tokens(
        WordPiece(NUMBERS, unk_token=UNKNOWN), pre_tokenizers.BertPreTokenizer()
    ),
    "BPE of characters": bpe(pre_tokenizers.Metaspace(), alphabet=[], unk_token=UNKNOWN),
    "BPE of few bytes": bpe(ByteLevel(add_prefix_space=False), alphabet=[]),
    "a blank added in front": bpe(ByteLevel(add_prefix_space=True)),
    "whitespace removed": bpe(
        steps(pre_tokenizers.WhitespaceSplit(), ByteLevel(add_prefix_space=False))
    ),
    "separators removed": bpe(
        steps(pre_tokenizers.Split(" ", "removed"), ByteLevel(add_prefix_space=False))
    ),
    "word endings marked": bpe(ByteLevel(add_prefix_space=False), end_of_word_suffix="</w>"),
    "words without punctuation": with_special_tokens(
        WordLevel(NUMBERS, unk_token=UNKNOWN), pre_tokenizers.Whitespace()
    ),
}


@pytest.mark.parametrize("tokenizer", UNKNOWN_LENGTHS.values(), ids=UNKNOWN_LENGTHS)
def test_byte_lengths_of_other_tokenizers_are_unknown(tokenizer: Tokenizer) -> None:
    lengths = byte_lengths(tokenizer)
    assert len(lengths) == tokenizer.get_vocab_size()
    assert all(map(math.isnan, lengths))


def test_byte_length_of_unknown_words_is_unknown() -> None:
    words = {**SPECIAL, "naïve": 4, "film": 5}
    lengths = byte_lengths(
        with_special_tokens(WordLevel(words, unk_token=UNKNOWN), pre_tokenizers.WhitespaceSplit())
    )
    assert math.isnan(lengths[UNK])
    assert lengths[4:] == [7, 5]
    assert 7 + 5 + lengths[END] == len("naïve film\n".encode())
