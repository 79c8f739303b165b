"""Sequence tagger: word embeddings and character features, recurrent stack, linear layer, and a CRF
or independent tag losses.

Shapes: T words of the longest row, B rows, E embedding width, F bytes of the longest word, D
directions, H hidden units, C tags.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.dropout import LockedDropout, TokenDropout, assign_dropout_sites
from pipeline.models.encoder import encoder
from pipeline.models.layers.crf import CRF
from pipeline.models.layers.masks import valid
from pipeline.models.poolings.last import Last
from pipeline.models.settings import EncoderSettings
from pipeline.settings import FilePath, setting

BYTE_VALUES = 256


class Tagger(nn.Module):
    """A many-to-many recurrent network with one tag per word (Huang et al. 2015, Lample et al.
    2016).

    `allowed` is the CRF's mask of permitted tag pairs; it is ignored without a CRF.
    """

    class Settings(EncoderSettings):
        characters: int = setting(
            32,
            "hidden units per direction of the layer over each word's characters; 0: no such layer",
            ge=0,
        )
        crf: bool = setting(
            True, "score whole tag sequences with a CRF, instead of each tag independently"
        )
        word_vectors: FilePath = setting(
            "",
            "file of word vectors to initialize the embedding, in the text format of word2vec or "
            "GloVe; their width must equal model.embedding; empty: none",
        )

    def __init__(
        self, settings: Settings, vocab_size: int, tags: int, allowed: Tensor | None = None
    ) -> None:
        super().__init__()
        s = settings
        self.embedding = nn.Embedding(vocab_size, s.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.token_dropout = TokenDropout(s.embedding_dropout)
        self.characters = CharacterEncoder(s) if s.characters else None
        width = s.embedding + (self.characters.outputs if self.characters else 0)
        self.input_dropout = LockedDropout(s.dropout)
        self.stack = encoder(width, s)
        self.output_dropout = LockedDropout(s.dropout)
        self.scores = nn.Linear(self.stack.outputs, tags)
        self.scorer: CRF | IndependentTags = CRF(tags, allowed) if s.crf else IndependentTags()
        assign_dropout_sites(self)

    def forward(
        self, words: Tensor, characters: Tensor, lengths: Tensor, keys: Tensor, tags: Tensor
    ) -> Tensor:
        """Return the negative log-likelihood [B] of tags [B, T]; other inputs as in `emissions`."""
        return self.scorer.nll(self.emissions(words, characters, lengths, keys), tags.t(), lengths)

    def emissions(self, words: Tensor, characters: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """Return the tag scores [T, B, C].

        words [B, T]; characters [B, T, F]; lengths [B] in 1..T; dropout keys [B].
        """
        states = self.states(words, characters, lengths, keys)
        with torch.autocast(states.device.type, enabled=False):  # scores and loss in full precision
            return self.scores(states.to(self.scores.weight.dtype))

    def states(self, words: Tensor, characters: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """Return the state of each word [T, B, D*H]; arguments as for `emissions`."""
        x = self.token_dropout(self.embedding(words.t()), keys)  # [T, B, E]
        if self.characters:
            x = torch.cat([x, self.characters(characters.transpose(0, 1))], -1)
        states, _ = self.stack(self.input_dropout(x, keys), lengths, keys)  # [T, B, D*H]
        return self.output_dropout(states, keys)


class CharacterEncoder(nn.Module):
    """The final states of a bidirectional recurrent layer over the bytes of each word."""

    def __init__(self, settings: Tagger.Settings) -> None:
        super().__init__()
        units = settings.characters
        self.embedding = nn.Embedding(BYTE_VALUES, units)
        nn.init.normal_(self.embedding.weight, std=0.1)
        values = {
            "hidden": units, "layers": 1, "bidirectional": True, "dropout": 0.0, "zoneout": 0.0,
            "zoneout_memory": 0.0, "layer_norm": False, "independent_directions": False,
            "reverse": False, "encoder": "stack",
        }  # fmt: skip
        known = type(settings).model_fields  # not every cell has each of these keys
        overrides = {name: value for name, value in values.items() if name in known}
        own = settings.model_copy(update=overrides)
        self.stack = encoder(units, own)
        self.last = Last(self.stack.outputs, own)
        self.outputs = self.stack.outputs

    def forward(self, characters: Tensor) -> Tensor:
        """characters [T, B, F], zero-padded after the end of each word -> [T, B, 2*H]."""
        steps, rows, word_bytes = characters.shape
        flat = characters.reshape(-1, word_bytes)  # [T*B, F]
        lengths = (flat > 0).sum(1).clamp(min=1)  # padding counts as a word of one byte
        if flat.device.type == "cpu":  # on other devices, reading the length would synchronize
            flat = flat[:, : int(lengths.max())]
        keys = torch.zeros_like(lengths)  # this layer has no dropout
        states, _ = self.stack(self.embedding(flat.t().long()), lengths, keys)  # [F, T*B, 2*H]
        return self.last(states, lengths).view(steps, rows, -1)


class IndependentTags(nn.Module):
    """A replacement for the CRF that predicts each tag independently."""

    def nll(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """emissions [T, B, C], tags [T, B], lengths [B] -> [B], as in `CRF.nll`."""
        losses = functional.cross_entropy(
            emissions.flatten(0, 1), tags.flatten(), reduction="none"
        ).view_as(tags)
        return (losses * valid(lengths, len(tags))).sum(0)

    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """emissions [T, B, C], lengths [B] -> the most likely tags [B, T], 0 on padding."""
        return (emissions.argmax(-1) * valid(lengths, len(emissions))).t()
