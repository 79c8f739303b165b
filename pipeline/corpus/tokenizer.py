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
    """Texts to token ids. No special token is added, nor read from a text.

    Of a text of more than `max_tokens` the `keep` is kept: its "start", its "end", or "both", half
    of them from either side.
    """

    def __init__(self, path: Path, max_tokens: int, keep: str = "start") -> None:
        try:
            self._tokenizer = Tokenizer.from_file(os.fspath(path))
        except Exception as error:  # the library raises nothing narrower
            raise DatasetError(f"{path}: is not a tokeniser: {error}; prepare anew") from None
        self._tokenizer.encode_special_tokens = True
        self.max_tokens, self.keep = max_tokens, keep

    @property
    def vocab_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids that are kept of each text."""
        return [ids for ids, _ in self.encode_marked(texts)]

    def encode_marked(self, texts: Sequence[str]) -> list[tuple[list[int], bool]]:
        """The ids that are kept of each text, and whether others were not."""
        most = self.max_tokens
        first = {"start": most, "both": most // 2, "end": 0}[self.keep]
        heads = self._side(texts, most + 1, end=False)  # the one more tells which are cut
        cut = [place for place, ids in enumerate(heads) if len(ids) > most]
        tails = self._side([texts[place] for place in cut], most - first, end=True)
        for place, tail in zip(cut, tails, strict=True):
            heads[place] = heads[place][:first] + tail
        marks = set(cut)
        return [(ids, place in marks) for place, ids in enumerate(heads)]

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
                ids = encoding.ids
                if len(ids) < enough and characters < len(texts[place]):
                    short.append(place)
                else:
                    found[place] = ids[-count:] if end else ids[:count]
            waiting, characters = short, characters * 4
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids, as the normaliser left it."""
        return self._tokenizer.decode(list(ids), skip_special_tokens=True)
