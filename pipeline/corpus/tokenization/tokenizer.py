"""Tokenizers: train one, check one, and encode or decode texts with one.

Preparation and prediction share the same encoder.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from functools import cached_property
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tokenizers import Encoding, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer, WordLevelTrainer

from pipeline.corpus.settings import TokenizerSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN
from pipeline.errors import DatasetError, InputError

MARGIN_TOKENS = 128
"""A long text is cut before tokenization. The cut can change the tokens next to it, so at least
this many tokens between the cut and the tokens in use are discarded."""
CHARACTERS_PER_TOKEN = 8
"""First guess of the length of a long text's part that has enough tokens."""
ROUND_TRIP_TEXTS = 10_000
"""Number of texts that a user's tokenizer is tested on."""
EXCERPT_CHARACTERS = 40
"""Characters of a text in an error message, after the first difference."""


def train(texts: Iterable[str], settings: TokenizerSettings, *, words: bool = False) -> str:
    """Train a tokenizer and return its tokenizer.json.

    Tokens are of type `settings.level`, or words if `words`; then, each text has one word per line.
    The same texts give the same tokenizer, whatever the number of threads.
    """
    word_level = words or settings.level == "word"
    split = pre_tokenizers.Split("\n", "removed") if words else pre_tokenizers.WhitespaceSplit()
    tokenizer = _new_word_level(split) if word_level else _new_bpe()
    tokenizer.normalizer = _normalizer(settings, settings.replace)
    if word_level:
        # With special tokens in the trainer, the library would count them as words, with new ids.
        size = settings.vocab_size - len(SPECIAL_TOKENS)
        trainer: Any = WordLevelTrainer(
            vocab_size=size, min_frequency=settings.min_count, special_tokens=[],
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(texts, trainer)
        trained = tokenizer.get_vocab()
        vocabulary = sorted(trained.keys() - set(SPECIAL_TOKENS), key=trained.__getitem__)
        tokens = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *vocabulary])}
        tokenizer.model = WordLevel(tokens, unk_token=UNKNOWN)
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        has_merges = settings.level != "byte"
        size = settings.vocab_size if has_merges else len(alphabet) + len(SPECIAL_TOKENS)
        trainer = BpeTrainer(
            vocab_size=size, initial_alphabet=alphabet, special_tokens=list(SPECIAL_TOKENS),
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(texts, trainer)
    if words:  # a word may contain any character, including a line end
        tokenizer.pre_tokenizer = None
    return tokenizer.to_str(pretty=True)


def _normalizer(settings: TokenizerSettings, replace: Mapping[str, str]) -> normalizers.Sequence:
    """Return the normalization of texts: replacements, NFC, lowercase if configured."""
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(old, new) for old, new in replace.items()
    ]
    return normalizers.Sequence(
        [*steps, normalizers.NFC(), *[normalizers.Lowercase()] * settings.lowercase]
    )


def _new_bpe() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _new_word_level(split: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = split
    return tokenizer


class EncodedText(NamedTuple):
    """Token ids of a text."""

    rows: list[list[int]]  # one per row; empty if the text is dropped or has no token
    long: bool  # whether the text has more than `max_tokens` tokens

    @property
    def skip(self) -> SkipReason | None:
        """Reason why there are no rows, or None if there are rows."""
        if self.rows:
            return None
        return SkipReason.TOO_LONG if self.long else SkipReason.NO_TOKENS


def read_tokenizer(settings: TokenizerSettings, *, generates: bool = False) -> bytes:
    """Return the content of the user's tokenizer.json, `corpus.tokenizer`.

    Its truncation, padding and dropout are removed: rows are truncated and padded elsewhere, and
    the same text must always have the same tokens. Raises InputError if it cannot be read, if its
    token <pad> is not special, or, for a model that `generates` text, if <s> or </s> is not
    special.
    """
    path = Path(settings.tokenizer)
    where = f"corpus.tokenizer={settings.tokenizer!r}"
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{where}: cannot be read: {error.strerror}") from None
    try:
        tokenizer = Tokenizer.from_buffer(data)
    except Exception as error:  # the library raises nothing narrower
        raise InputError(f"{where}: is not a tokenizer.json: {error}") from None
    uses = {PAD: "pads rows"}
    if generates:
        uses |= {BEGIN: "begins generated text", END: "ends generated text"}
    for token, use in uses.items():
        added = tokenizer.get_added_tokens_decoder().get(token)
        if added is None or not added.special:
            raise InputError(
                f"{where}: its token {token} is {tokenizer.id_to_token(token)!r} and represents "
                f"text, but token {token} {use}; use a tokenizer whose token {token} is special"
            )
    return _without_batch_settings(data)


def _without_batch_settings(data: bytes) -> bytes:
    """Return a tokenizer.json without truncation, padding and dropout; unchanged if it has none."""
    content = json.loads(data)
    model = content["model"]
    if not (content.get("truncation") or content.get("padding") or model.get("dropout")):
        return data
    content |= {"truncation": None, "padding": None}
    if "dropout" in model:
        model["dropout"] = None
    return json.dumps(content, ensure_ascii=False, indent=2).encode()


def check_round_trip(path: Path, texts: Iterable[str], settings: TokenizerSettings) -> None:
    """Raises InputError if the user's tokenizer at `path` does not restore one of the first texts.

    Decoding must give the text after `corpus.replace`, NFC and `corpus.lowercase`. The decoded text
    is compared after NFC and `corpus.lowercase`, so the tokenizer need not apply those itself.
    """
    encoder = TextEncoder(path, 1 << 16)
    normalizer = _normalizer(settings, settings.replace)
    without_replacements = _normalizer(settings, {})
    tested = list(islice(texts, ROUND_TRIP_TEXTS))
    for text, encoded in zip(tested, encoder.encode(tested), strict=True):
        expected = normalizer.normalize_str(text)
        decoded = "".join(map(encoder.decode, encoded.rows))
        decoded = without_replacements.normalize_str(decoded)
        if encoded.rows and not encoded.long and decoded != expected:
            pairs = enumerate(zip_longest(decoded, expected))
            first = next(position for position, (ours, theirs) in pairs if ours != theirs)
            excerpt = slice(max(first - EXCERPT_CHARACTERS // 2, 0), first + EXCERPT_CHARACTERS)
            raise InputError(
                f"corpus.tokenizer={settings.tokenizer!r}: decodes {expected[excerpt]!r} as "
                f"{decoded[excerpt]!r}, so metrics of generated text would be wrong; use a "
                "tokenizer that restores each text, such as byte-level BPE with the same "
                "corpus.replace and corpus.lowercase, or set corpus.tokenizer='' to train one"
            )


class TextDecoder:
    """Decodes token ids, given the content of a tokenizer.json."""

    def __init__(self, data: bytes) -> None:
        self._tokenizer = Tokenizer.from_buffer(data)

    def decode(self, ids: Sequence[int]) -> str:
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
            self._tokenizer = Tokenizer.from_buffer(_without_batch_settings(path.read_bytes()))
        except Exception as error:  # the library raises nothing narrower
            raise DatasetError(f"{path}: is not a tokenizer: {error}; prepare again") from None
        self._tokenizer.encode_special_tokens = True
        self.path = path
        self._id_map = self._special_to_unknown()
        self.max_tokens, self.truncation_side, self.overflow = max_tokens, truncation_side, overflow

    @property
    def vocab_size(self) -> int:
        """One more than the largest token id; ids may have gaps."""
        return max(self._tokenizer.get_vocab().values()) + 1

    def dropping(self, max_tokens: int) -> "TextEncoder":
        """Return a copy of the encoder that drops texts of more than `max_tokens` tokens."""
        other = copy(self)
        other.max_tokens, other.overflow = max_tokens, "drop"
        return other

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Encode a batch of texts."""
        # One token more than allowed shows which texts are too long.
        heads = self._encode_side(texts, self.max_tokens + 1, end=False)
        encoded = [EncodedText([ids] if ids else [], len(ids) > self.max_tokens) for ids in heads]
        long = [i for i, text in enumerate(encoded) if text.long]
        long_rows = self._encode_long([texts[i] for i in long], [heads[i] for i in long])
        for i, rows in zip(long, long_rows, strict=True):
            encoded[i] = EncodedText(rows, True)
        return encoded

    def _encode_long(
        self, texts: Sequence[str], heads: Sequence[list[int]]
    ) -> list[list[list[int]]]:
        """Return the rows of texts that exceed one row, given their first tokens."""
        if self.overflow == "drop":
            return [[] for _ in texts]
        if self.overflow == "split":
            return [_split_evenly(self._encode_whole(text), self.max_tokens) for text in texts]
        limit = self.max_tokens
        first = {"start": limit, "both": limit // 2, "end": 0}[self.truncation_side]
        tails = self._encode_side(texts, limit - first, end=True)
        return [[head[:first] + tail] for head, tail in zip(heads, tails, strict=True)]

    def _special_to_unknown(self) -> dict[int, int]:
        """Map special tokens to <unk>: a word-level model would encode the word "<pad>" as PAD."""
        model: Any = self._tokenizer.model
        if not isinstance(model, WordLevel):
            return {}
        unknown = self._tokenizer.token_to_id(model.unk_token or UNKNOWN)
        added = self._tokenizer.get_added_tokens_decoder()
        return {} if unknown is None else {n: unknown for n, t in added.items() if t.special}

    def _ids(self, encoding: Encoding) -> list[int]:
        if not self._id_map:
            return encoding.ids
        return [self._id_map.get(token_id, token_id) for token_id in encoding.ids]

    def _encode_whole(self, text: str) -> list[int]:
        """Return all ids of a text. One text at a time: the library needs up to 200 bytes per
        character."""
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return self._ids(encoding)

    def _encode_side(self, texts: Sequence[str], count: int, *, end: bool) -> list[list[int]]:
        """Return the first or the last `count` ids of each text, all if it has fewer.

        Encodes only as much of a text as is needed.
        """
        sides: list[list[int]] = [[] for _ in texts]
        enough = count + MARGIN_TOKENS
        pending = list(range(len(texts))) if count else []
        characters = enough * CHARACTERS_PER_TOKEN
        while pending:
            part = slice(-characters, None) if end else slice(characters)
            parts = [texts[i][part] for i in pending]
            encodings = self._tokenizer.encode_batch_fast(parts, add_special_tokens=False)
            too_short = []
            for i, encoding in zip(pending, encodings, strict=True):
                ids = self._ids(encoding)
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

    def encode_words(self, rows: Sequence[Sequence[str]]) -> list[list[int]]:
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
        return [self._ids(encoding) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of token ids, in normalized form. Special tokens are skipped."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


def _split_evenly(ids: list[int], max_length: int) -> list[list[int]]:
    """Split into as few rows of at most `max_length` as possible; lengths differ by at most 1."""
    return [row.tolist() for row in np.array_split(ids, -(-len(ids) // max_length))]
