"""Number of text bytes that each token of a tokenizer.json represents, where it is exact.

In byte-level BPE, each character of a token is one byte. A word token includes the blank or line
end after the word. For other tokenizers, the number may depend on neighboring tokens or on the
original text, so it is unknown.
"""

import math
from typing import Any

from pipeline.corpus.tokenization.special_tokens import END, UNKNOWN

BYTE_VALUES = 256
LOSSLESS_STEPS = ("Split", "Digits", "ByteLevel")
"""Pre-tokenizers that split a text without removing anything."""


def token_byte_lengths(tokenizer: dict[str, Any], vocabulary: int) -> list[float]:
    """Return the bytes per token id, NaN where unknown.

    <unk> is unknown, and so is every token of a tokenizer that is neither byte-level BPE nor
    whitespace-separated words. </s> represents the line end after a text: 1 byte, or 0 for word
    tokens because the last word already includes it. Other special tokens have 0 bytes.
    """
    lengths = [math.nan] * vocabulary  # ids may have gaps
    words = _is_word_level(tokenizer)
    if not words and not _is_byte_level(tokenizer):
        return lengths
    for token, token_id in tokenizer["model"]["vocab"].items():
        lengths[token_id] = len(token.encode()) + 1 if words else len(token)
    for added in tokenizer.get("added_tokens", []):
        token, token_id = added["content"], added["id"]
        lengths[token_id] = 0 if added["special"] else len(token.encode()) + words
        if token == UNKNOWN:
            lengths[token_id] = math.nan
    lengths[END] = 0 if words else 1
    return lengths


def _is_byte_level(tokenizer: dict[str, Any]) -> bool:
    """Whether tokens consist of the bytes of a text, one character per byte, and nothing else."""
    model, steps = tokenizer["model"], _pre_tokenizers(tokenizer)
    return (
        model.get("type") == "BPE"
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and sum(len(token) == 1 for token in model["vocab"]) >= BYTE_VALUES
        and any(step["type"] == "ByteLevel" for step in steps)
        and all(step["type"] in LOSSLESS_STEPS for step in steps)
        and not any(step.get("add_prefix_space") for step in steps)
        and not any(step.get("behavior") == "Removed" for step in steps)
    )


def _is_word_level(tokenizer: dict[str, Any]) -> bool:
    """Whether tokens are whitespace-separated words."""
    steps = [step["type"] for step in _pre_tokenizers(tokenizer)]
    return tokenizer["model"].get("type") == "WordLevel" and steps == ["WhitespaceSplit"]


def _pre_tokenizers(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the steps that split a text before the model does, in order."""
    step = tokenizer.get("pre_tokenizer")
    if step is None:
        return []
    return step["pretokenizers"] if step["type"] == "Sequence" else [step]
