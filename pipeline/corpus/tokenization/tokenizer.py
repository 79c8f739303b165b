"""Trains a tokenizer, or reads and checks that of the user."""

from collections.abc import Iterable, Mapping
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer, WordLevelTrainer

from pipeline.corpus.settings import TokenizerSettings
from pipeline.corpus.tokenization.backends import without_batch_settings
from pipeline.corpus.tokenization.special_tokens import BEGIN, END, PAD, SPECIAL_TOKENS, UNKNOWN
from pipeline.corpus.tokenization.text_encoder import TextEncoder
from pipeline.errors import InputError

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
    return without_batch_settings(data)


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
