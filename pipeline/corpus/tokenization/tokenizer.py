"""Byte-level BPE: trained on a sample, and the encoder that shards and predictions share."""

import os
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

from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.corpus.tokenization.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN
from pipeline.errors import DatasetError, InputError

# A long text is cut before it is tokenized. The cut can change the tokens just before it, so this
# many are left between the last that counts and the cut.
MARGIN_TOKENS = 128
FIRST_CHARACTERS = 8  # a token: how much of a long text is tried first
SPELT = 10_000  # texts that a given tokenizer is tried on
SHOWN = 40  # characters of a text in an error, behind where it differs


def train(texts: Iterable[str], settings: CorpusSettings, *, words: bool = False) -> str:
    """A tokenizer as JSON: of the level that is asked for, or of whole `words`, which stand on
    lines of their own. The same texts give the same tokenizer, in any number of threads."""
    whole = words or settings.level == "word"
    apart = pre_tokenizers.Split("\n", "removed") if words else pre_tokenizers.WhitespaceSplit()
    tokenizer = _whole(apart) if whole else _bpe()
    tokenizer.normalizer = _normalizer(settings, settings.replace)
    if whole:
        # Told of the special tokens, the library would count them as words too, under new ids.
        size = settings.vocab_size - len(SPECIAL_TOKENS)
        trainer: Any = WordLevelTrainer(
            vocab_size=size, min_frequency=settings.min_count, special_tokens=[],
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(texts, trainer)
        counted = tokenizer.get_vocab()
        known = sorted(counted.keys() - set(SPECIAL_TOKENS), key=counted.__getitem__)
        tokens = {token: number for number, token in enumerate([*SPECIAL_TOKENS, *known])}
        tokenizer.model = WordLevel(tokens, unk_token=UNKNOWN)
        tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    else:
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        merged = settings.level != "byte"
        size = settings.vocab_size if merged else len(alphabet) + len(SPECIAL_TOKENS)
        trainer = BpeTrainer(
            vocab_size=size, initial_alphabet=alphabet, special_tokens=list(SPECIAL_TOKENS),
            show_progress=False,
        )  # fmt: skip
        tokenizer.train_from_iterator(texts, trainer)
    if words:  # a word may hold any character, a line end too
        tokenizer.pre_tokenizer = None
    return tokenizer.to_str(pretty=True)


def _normalizer(settings: CorpusSettings, replace: Mapping[str, str]) -> normalizers.Sequence:
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(old, new) for old, new in replace.items()
    ]
    return normalizers.Sequence(
        [*steps, normalizers.NFC(), *[normalizers.Lowercase()] * settings.lowercase]
    )


def _bpe() -> Tokenizer:
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _whole(apart: pre_tokenizers.PreTokenizer) -> Tokenizer:
    tokenizer = Tokenizer(WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = apart
    return tokenizer


class EncodedText(NamedTuple):
    """What became of a text."""

    rows: list[list[int]]  # token ids; none of a text that is dropped or has no token
    long: bool  # more than `max_tokens` tokens

    @property
    def skip(self) -> SkipReason | None:
        """Why there is no row."""
        if self.rows:
            return None
        return SkipReason.TOO_LONG if self.long else SkipReason.NO_TOKENS


def given_tokenizer(settings: CorpusSettings, *, writes: bool = False) -> bytes:
    """The file that `corpus.tokenizer` names. Raises InputError if it is none, or cannot pad, or
    begin and end a text that is to be written."""
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
    uses = {PAD: "rows are padded with it"}
    if writes:
        uses |= {BEGIN: "what is written begins with it", END: "what is written ends with it"}
    for token, use in uses.items():
        added = tokenizer.get_added_tokens_decoder().get(token)
        if added is None or not added.special:
            raise InputError(
                f"{where}: its token {token} is {tokenizer.id_to_token(token)!r} and stands for "
                f"text, but {use}; give a tokenizer whose token {token} is special"
            )
    return data


def check_spelling(path: Path, texts: Iterable[str], settings: CorpusSettings) -> None:
    """Raises InputError if the tokenizer at `path`, which was given, does not give back one of the
    first `texts` as `corpus.replace`, NFC and `corpus.lowercase` leave it."""
    encoder = TextEncoder(path, 1 << 16)
    wanted, plain = (_normalizer(settings, replace) for replace in (settings.replace, {}))
    tried = list(islice(texts, SPELT))
    for text, encoded in zip(tried, encoder.encode(tried), strict=True):
        right = wanted.normalize_str(text)
        found = plain.normalize_str("".join(map(encoder.decode, encoded.rows)))
        if encoded.rows and not encoded.long and found != right:
            pairs = enumerate(zip_longest(found, right))
            differs = next(place for place, (one, other) in pairs if one != other)
            shown = slice(max(differs - SHOWN // 2, 0), differs + SHOWN)
            raise InputError(
                f"corpus.tokenizer={settings.tokenizer!r}: spells {right[shown]!r} as "
                f"{found[shown]!r}, and what is written would be judged by that; give one that "
                "gives back each text, such as byte-level BPE of the same corpus.replace and case, "
                "or set corpus.tokenizer='' to have one trained"
            )


class TextDecoder:
    """Token ids to texts, by the content of a tokenizer.json."""

    def __init__(self, data: bytes) -> None:
        self._tokenizer = Tokenizer.from_buffer(data)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, as the normalizer left it."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


class TextEncoder:
    """Texts to rows of at most `max_tokens` token ids. No special token is added, nor read from a
    text.

    Of a longer text the `keep` is kept: its "start", its "end", or "both", half of them from
    either side. If `overflow` is "split", the whole of it becomes several rows instead, as even
    as can be; if it is "drop", none.
    """

    def __init__(
        self,
        path: Path,
        max_tokens: int,
        truncation_side: str = "start",
        overflow: str = "truncate",
    ) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the library raises nothing narrower
            raise DatasetError(f"{path}: is not a tokenizer: {error}; prepare anew") from None
        self._tokenizer.encode_special_tokens = True
        self.path = path
        self._instead = self._unread()
        self.max_tokens, self.truncation_side, self.overflow = max_tokens, truncation_side, overflow

    @property
    def vocab_size(self) -> int:
        return max(self._tokenizer.get_vocab().values()) + 1  # ids may be left out

    def dropping(self, max_tokens: int) -> "TextEncoder":
        """The same, but for texts that are dropped if they have more tokens than these."""
        other = copy(self)
        other.max_tokens, other.overflow = max_tokens, "drop"
        return other

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """The rows of each text."""
        most = self.max_tokens
        heads = self._side(texts, most + 1, end=False)  # the one more tells which are long
        found = [EncodedText([ids] if ids else [], len(ids) > most) for ids in heads]
        long = [place for place, text in enumerate(found) if text.long]
        rows = self._long([texts[place] for place in long], [heads[place] for place in long])
        for place, of_text in zip(long, rows, strict=True):
            found[place] = EncodedText(of_text, True)
        return found

    def _long(self, texts: Sequence[str], heads: Sequence[list[int]]) -> list[list[list[int]]]:
        """The rows of texts that are too long for one and begin with `heads`."""
        most = self.max_tokens
        if self.overflow == "drop":
            return [[] for _ in texts]
        if self.overflow == "split":
            return [_even(self._whole(text), most) for text in texts]
        first = {"start": most, "both": most // 2, "end": 0}[self.truncation_side]
        tails = self._side(texts, most - first, end=True)
        return [[head[:first] + tail] for head, tail in zip(heads, tails, strict=True)]

    def _unread(self) -> dict[int, int]:
        """What a whole word that is spelt as a special token becomes: unknown."""
        model: Any = self._tokenizer.model
        if not isinstance(model, WordLevel):
            return {}
        unknown = self._tokenizer.token_to_id(model.unk_token or UNKNOWN)
        added = self._tokenizer.get_added_tokens_decoder()
        return {} if unknown is None else {n: unknown for n, t in added.items() if t.special}

    def _ids(self, encoding: Encoding) -> list[int]:
        if not self._instead:
            return encoding.ids
        return [self._instead.get(number, number) for number in encoding.ids]

    def _whole(self, text: str) -> list[int]:
        """All ids of a text. One at a time: the library takes up to 200 bytes a character."""
        (encoding,) = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)
        return self._ids(encoding)

    def _side(self, texts: Sequence[str], count: int, *, end: bool) -> list[list[int]]:
        """The first or the last `count` ids of each text, all if it has fewer."""
        found: list[list[int]] = [[] for _ in texts]
        enough = count + MARGIN_TOKENS
        waiting = list(range(len(texts))) if count else []
        characters = enough * FIRST_CHARACTERS
        while waiting:
            part = slice(-characters, None) if end else slice(characters)
            sides = [texts[place][part] for place in waiting]
            encoded = self._tokenizer.encode_batch_fast(sides, add_special_tokens=False)
            short = []
            for place, encoding in zip(waiting, encoded, strict=True):
                ids = self._ids(encoding)
                if len(ids) < enough and characters < len(texts[place]):
                    short.append(place)
                else:
                    found[place] = ids[-count:] if end else ids[:count]
            waiting, characters = short, characters * 4
        return found

    @cached_property
    def _of_words(self) -> Tokenizer:
        """The same for words that are told apart already: a language model's takes text apart."""
        if not isinstance(self._tokenizer.model, WordLevel):
            return self._tokenizer
        other = Tokenizer.from_str(self._tokenizer.to_str())
        other.encode_special_tokens = True
        other.pre_tokenizer = None
        return other

    def encode_words(self, rows: Sequence[Sequence[str]]) -> list[list[int]]:
        """The ids of rows of words, one a word; one that is spelt as a special token is unknown.
        Raises DatasetError if the tokenizer is another kind, which may take words apart."""
        encodings = self._of_words.encode_batch_fast(
            [list(row) for row in rows], is_pretokenized=True, add_special_tokens=False
        )
        for row, encoding in zip(rows, encodings, strict=True):
            if len(encoding.ids) != len(row):
                raise DatasetError(
                    f"{self.path}: takes words apart or leaves some out ({len(row)} words of a row "
                    f"became {len(encoding.ids)} tokens), but every word has its tag; give a "
                    "tokenizer of whole words, or set corpus.tokenizer='' to have one trained, and "
                    "let corpus.replace leave something of each word"
                )
        return [self._ids(encoding) for encoding in encodings]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, as the normalizer left it."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)


def _even(ids: list[int], most: int) -> list[list[int]]:
    """Cut into as few rows of at most `most` as can be, their lengths at most one apart."""
    return [row.tolist() for row in np.array_split(ids, -(-len(ids) // most))]
