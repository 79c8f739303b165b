"""How many bytes of text each token of a tokenizer.json stands for, where that can be told exactly.

Of byte-level BPE each character of a token is a byte; a whole word has a blank or a line end behind
it. What a token of another kind stands for may hang on its neighbors, or on what was written.
"""

import math
from typing import Any

from pipeline.corpus.tokenization.special_tokens import END, UNKNOWN

ALPHABET = 256  # characters, one for each byte
UNTOUCHED = ("Split", "Digits", "ByteLevel")
"""Steps that take a text apart and leave nothing out."""


def token_byte_lengths(tokenizer: dict[str, Any], vocabulary: int) -> list[float]:
    """By token id, NaN where it cannot be told: of <unk>, and of all tokens of a tokenizer that is
    neither byte-level BPE nor of what stands between blanks. The end of a text is a line end, which
    of words is what stands behind the last; the other special tokens stand for nothing."""
    found = [math.nan] * vocabulary  # ids may be left out
    words = _is_of_words(tokenizer)
    if not words and not _is_byte_level(tokenizer):
        return found
    for token, number in tokenizer["model"]["vocab"].items():
        found[number] = len(token.encode()) + 1 if words else len(token)
    for added in tokenizer.get("added_tokens", []):
        token, number = added["content"], added["id"]
        found[number] = 0 if added["special"] else len(token.encode()) + words
        if token == UNKNOWN:
            found[number] = math.nan
    found[END] = 0 if words else 1
    return found


def _is_byte_level(tokenizer: dict[str, Any]) -> bool:
    """Whether every byte of a text, and nothing else, is a character of a token."""
    model, steps = tokenizer["model"], _steps(tokenizer)
    return (
        model.get("type") == "BPE"
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and sum(len(token) == 1 for token in model["vocab"]) >= ALPHABET
        and any(step["type"] == "ByteLevel" for step in steps)
        and all(step["type"] in UNTOUCHED for step in steps)
        and not any(step.get("add_prefix_space") for step in steps)
        and not any(step.get("behavior") == "Removed" for step in steps)
    )


def _is_of_words(tokenizer: dict[str, Any]) -> bool:
    """Whether a token is what stands between blanks."""
    apart = [step["type"] for step in _steps(tokenizer)]
    return tokenizer["model"].get("type") == "WordLevel" and apart == ["WhitespaceSplit"]


def _steps(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    """What takes a text apart before the model does, in order."""
    first = tokenizer.get("pre_tokenizer")
    if first is None:
        return []
    return first["pretokenizers"] if first["type"] == "Sequence" else [first]
