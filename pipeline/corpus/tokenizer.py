"""Byte-level BPE: trained on a sample, and the encoder that shards and predictions share."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from pipeline.corpus.dataset import SPECIAL_TOKENS
from pipeline.corpus.settings import CorpusSettings
from pipeline.errors import DatasetError

# A long text is cut before it is tokenised. The cut can change the tokens just before it, so this
# many are left between the last that counts and the cut.
MARGIN_TOKENS = 128
FIRST_CHARACTERS = 8  # a token: how much of a long text is tried first


def train(texts: Iterable[str], settings: CorpusSettings) -> str:
    """A tokeniser as JSON. The same texts give the same tokeniser, in any number of threads."""
    tokenizer = Tokenizer(BPE())
    steps: list[normalizers.Normalizer] = [
        normalizers.Replace(old, new) for old, new in settings.replace.items()
    ]
    steps += [normalizers.NFC()] + [normalizers.Lowercase()] * settings.lowercase
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=settings.vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer.to_str(pretty=True)


class Encoder:
    """Texts to token ids, cut at `max_tokens`. No special token is added, nor read from a text."""

    def __init__(self, path: Path, max_tokens: int) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the library raises nothing narrower
            raise DatasetError(f"{path}: is not a tokeniser: {error}; prepare anew") from None
        self._tokenizer.encode_special_tokens = True
        self.max_tokens = max_tokens

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The first `max_tokens` ids of each text."""
        found: list[list[int]] = [[]] * len(texts)
        enough = self.max_tokens + MARGIN_TOKENS
        waiting, characters = list(range(len(texts))), enough * FIRST_CHARACTERS
        while waiting:
            heads = [texts[place][:characters] for place in waiting]
            encoded = self._tokenizer.encode_batch_fast(heads, add_special_tokens=False)
            short = []
            for place, encoding in zip(waiting, encoded, strict=True):
                ids = encoding.ids
                if len(ids) < enough and characters < len(texts[place]):
                    short.append(place)
                else:
                    found[place] = ids[: self.max_tokens]
            waiting, characters = short, characters * 4
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, as the normaliser left it."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)
