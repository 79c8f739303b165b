"""Encodes texts for preparation, unprepared streaming, evaluation and prediction; decodes ids."""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.backends import CheckedBackend, TokenIds, shared_tokenizer
from pipeline.corpus.tokenization.special_tokens import UNKNOWN
from pipeline.errors import DatasetError

MARGIN_TOKENS = 128
"""A long text is cut before tokenization. The cut can change the tokens next to it, so at least
this many tokens between the cut and the tokens in use are discarded."""
CHARACTERS_PER_TOKEN = 8
"""First guess of the number of characters per token, to find how much of a long text is needed."""


class EncodedText(NamedTuple):
    """Token ids of a text."""

    rows: list[TokenIds]  # one per row; empty if the text is dropped or has no token
    long: bool  # whether the text has more than `max_tokens` tokens

    @property
    def skip(self) -> SkipReason | None:
        """Reason why there are no rows, or None if there are rows."""
        if self.rows:
            return None
        return SkipReason.TOO_LONG if self.long else SkipReason.NO_TOKENS


class TextDecoder:
    """Decodes token ids, given the content of a tokenizer.json."""

    def __init__(self, data: bytes) -> None:
        self._tokenizer = Tokenizer.from_buffer(data)

    def decode(self, ids: Sequence[int] | TokenIds) -> str:
        """Return the text of token ids, in normalized form. Special tokens are skipped."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


class TextEncoder:
    """Encodes texts as rows of at most `max_tokens` token ids.

    No special tokens are added, and a special token's name in a text is encoded as plain text. A
    text with more tokens is handled according to `overflow`:

    truncate  one row of its "start", its "end", or half of "both" (`truncation_side`)
    split     several rows of all its tokens, whose lengths differ by at most one
    drop      no row
    """

    def __init__(
        self,
        path: Path,
        max_tokens: int,
        truncation_side: str = "start",
        overflow: str = "truncate",
    ) -> None:
        try:
            # The path may be that of the user's file, or of a copy by an earlier version.
            self._shared = shared_tokenizer(path)
        except Exception as error:  # the library raises nothing narrower
            raise DatasetError(f"{path}: is not a tokenizer: {error}; prepare again") from None
        self._tokenizer = self._shared.tokenizer
        self.path = path
        self._id_map = self._special_to_unknown()
        self.max_tokens, self.truncation_side, self.overflow = max_tokens, truncation_side, overflow

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id; ids may have gaps."""
        return self._shared.vocab_size

    @property
    def backend(self) -> CheckedBackend:
        """The library that encodes texts, shared by all encoders of this tokenizer."""
        return self._shared.backend

    def dropping(self, max_tokens: int) -> "TextEncoder":
        """Return a copy of the encoder that drops texts of more than `max_tokens` tokens."""
        other = copy(self)
        other.max_tokens, other.overflow = max_tokens, "drop"
        return other

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Encode a batch of texts."""
        # One token more than allowed shows which texts are too long.
        heads = self._encode_side(texts, self.max_tokens + 1, end=False)
        encoded = [
            EncodedText([ids] if len(ids) else [], len(ids) > self.max_tokens) for ids in heads
        ]
        long = [i for i, text in enumerate(encoded) if text.long]
        long_rows = self._encode_long([texts[i] for i in long], [heads[i] for i in long])
        for i, rows in zip(long, long_rows, strict=True):
            encoded[i] = EncodedText(rows, True)
        return encoded

    def _encode_long(self, texts: Sequence[str], heads: Sequence[TokenIds]) -> list[list[TokenIds]]:
        """Return the rows of texts that exceed one row, given their first tokens."""
        if self.overflow == "drop":
            return [[] for _ in texts]
        if self.overflow == "split":
            return [_split_evenly(self._encode([text])[0], self.max_tokens) for text in texts]
        limit = self.max_tokens
        first = {"start": limit, "both": limit // 2, "end": 0}[self.truncation_side]
        tails = self._encode_side(texts, limit - first, end=True)
        pairs = zip(heads, tails, strict=True)
        return [[np.concatenate([head[:first], tail])] for head, tail in pairs]

    def _special_to_unknown(self) -> TokenIds | None:
        """Return the id to store for each id: a word-level model would encode the word "<pad>" as
        PAD, which becomes <unk>. None if all ids stay the same."""
        model: Any = self._tokenizer.model
        if not isinstance(model, WordLevel):
            return None
        unknown = self._tokenizer.token_to_id(model.unk_token or UNKNOWN)
        if unknown is None:
            return None
        id_map = np.arange(self.vocab_size, dtype=np.uint32)
        added = self._tokenizer.get_added_tokens_decoder()
        id_map[[token_id for token_id, token in added.items() if token.special]] = unknown
        return id_map

    def _stored(self, ids: TokenIds) -> TokenIds:
        return ids if self._id_map is None else self._id_map[ids]

    def _encode(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return all ids of each text. For long texts, call it with one text at a time: tokenizers
        needs up to 200 bytes per character."""
        return [self._stored(ids) for ids in self.backend.encode(texts)]

    def _encode_side(self, texts: Sequence[str], count: int, *, end: bool) -> list[TokenIds]:
        """Return the first or the last `count` ids of each text, all if it has fewer.

        Encodes only as much of a text as is needed.
        """
        sides = [np.empty(0, np.uint32) for _ in texts]
        enough = count + MARGIN_TOKENS
        pending = list(range(len(texts))) if count else []
        characters = enough * CHARACTERS_PER_TOKEN
        while pending:
            part = slice(-characters, None) if end else slice(characters)
            encoded = self._encode([texts[i][part] for i in pending])
            too_short = []
            for i, ids in zip(pending, encoded, strict=True):
                if len(ids) < enough and characters < len(texts[i]):
                    too_short.append(i)
                else:
                    sides[i] = ids[-count:] if end else ids[:count]
            pending, characters = too_short, characters * 4
        return sides

    @cached_property
    def _word_tokenizer(self) -> Tokenizer:
        """The tokenizer without its pre-tokenizer, for text that is already split into words."""
        if not isinstance(self._tokenizer.model, WordLevel):
            return self._tokenizer
        tokenizer = Tokenizer.from_str(self._tokenizer.to_str())
        tokenizer.encode_special_tokens = True
        tokenizer.pre_tokenizer = None
        return tokenizer

    def encode_words(self, rows: Sequence[Sequence[str]]) -> list[TokenIds]:
        """Encode rows of words, one id per word. The names of special tokens are unknown words.

        Raises DatasetError if the tokenizer splits or removes a word.
        """
        encodings = self._word_tokenizer.encode_batch_fast(
            [list(row) for row in rows], is_pretokenized=True, add_special_tokens=False
        )
        for row, encoding in zip(rows, encodings, strict=True):
            if len(encoding.ids) != len(row):
                raise DatasetError(
                    f"{self.path}: splits or removes words ({len(row)} words of a row became "
                    f"{len(encoding.ids)} tokens), but every word has a tag; use a word-level "
                    "tokenizer, or set corpus.tokenizer='' to train one, and let corpus.replace "
                    "leave a part of each word"
                )
        return [self._stored(np.array(encoding.ids, np.uint32)) for encoding in encodings]

    def decode(self, ids: Sequence[int] | TokenIds) -> str:
        """Return the text of token ids, in normalized form. Special tokens are skipped."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


def _split_evenly(ids: TokenIds, max_length: int) -> list[TokenIds]:
    """Split into as few rows of at most `max_length` as possible; lengths differ by at most 1."""
    return np.array_split(ids, -(-len(ids) // max_length))
