"""Words to a tag each: embeddings and characters, recurrent stack, one linear layer, and what
scores whole sequences.

Legend: T words of the longest row, B rows, E embedding, F bytes of a word, D directions, H hidden,
C tags.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.dropout import LockedDropout, TokenDropout
from pipeline.models.encoder import encoder
from pipeline.models.layers.crf import CRF
from pipeline.models.layers.pooling import Last, valid
from pipeline.models.settings import ModelSettings

BYTES = 256
CHARACTERS = 2000
"""The place of their dropouts, behind those of the stack."""


class Tagger(nn.Module):
    """A many-to-many recurrent network, step by step (Huang et al. 2015, Lample et al. 2016).

    `allowed` is the CRF's; it has no use without one.
    """

    def __init__(
        self, settings: ModelSettings, vocabulary: int, tags: int, allowed: Tensor | None = None
    ) -> None:
        super().__init__()
        s = settings
        self.embedding = nn.Embedding(vocabulary, s.embedding)
        nn.init.normal_(self.embedding.weight, std=0.1)
        self.token_dropout = TokenDropout(s.embedding_dropout, site=0)
        self.characters = Characters(s) if s.characters else None
        width = s.embedding + (self.characters.outputs if self.characters else 0)
        self.input_dropout = LockedDropout(s.dropout, site=1)
        self.stack = encoder(width, s, site=2)
        self.output_dropout = LockedDropout(s.dropout, site=1000)
        self.scores = nn.Linear(self.stack.outputs, tags)
        self.scorer: CRF | Independent = CRF(tags, allowed) if s.crf else Independent()

    def forward(
        self, words: Tensor, characters: Tensor, lengths: Tensor, keys: Tensor, tags: Tensor
    ) -> Tensor:
        """What `emissions` reads, and tags [B, T] -> minus their log-probability [B]."""
        return self.scorer.nll(self.emissions(words, characters, lengths, keys), tags.t(), lengths)

    def emissions(self, words: Tensor, characters: Tensor, lengths: Tensor, keys: Tensor) -> Tensor:
        """words [B, T], characters [B, T, F], lengths [B] in 1..T, keys [B] (of dropout) -> scores
        [T, B, C]."""
        x = self.token_dropout(self.embedding(words.t()), keys)  # [T, B, E]
        if self.characters:
            x = torch.cat([x, self.characters(characters.transpose(0, 1))], -1)
        states, _ = self.stack(self.input_dropout(x, keys), lengths, keys)  # [T, B, D*H]
        states = self.output_dropout(states, keys)
        with torch.autocast(x.device.type, enabled=False):  # scores and loss in full precision
            return self.scores(states.to(self.scores.weight.dtype))


class Characters(nn.Module):
    """The last states of a recurrent layer over the bytes of each word, in both directions."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        units = settings.characters
        self.embedding = nn.Embedding(BYTES, units)
        nn.init.normal_(self.embedding.weight, std=0.1)
        own = {
            "hidden": units, "layers": 1, "bidirectional": True, "dropout": 0.0, "zoneout": 0.0,
            "zoneout_memory": 0.0, "layer_norm": False, "independent_directions": False, "reverse": False,
        }  # fmt: skip
        self.stack = encoder(units, settings.model_copy(update=own), CHARACTERS)
        self.last = Last(self.stack.outputs, units)
        self.outputs = self.stack.outputs

    def forward(self, characters: Tensor) -> Tensor:
        """characters [T, B, F], 0 behind the end of a word -> [T, B, 2*H]."""
        steps, rows, width = characters.shape
        flat = characters.reshape(-1, width)  # [T*B, F]
        lengths = (flat > 0).sum(1).clamp(min=1)  # padding counts as a word of one byte
        if flat.device.type == "cpu":  # on another device this would wait for it
            flat = flat[:, : int(lengths.max())]
        keys = torch.zeros_like(lengths)  # nothing is dropped
        states, _ = self.stack(self.embedding(flat.t().long()), lengths, keys)  # [F, T*B, 2*H]
        return self.last(states, lengths).view(steps, rows, -1)


class Independent(nn.Module):
    """Each tag for itself, in place of a CRF."""

    def nll(self, emissions: Tensor, tags: Tensor, lengths: Tensor) -> Tensor:
        """emissions [T, B, C], tags [T, B], lengths [B] -> [B], as `CRF.nll`."""
        losses = functional.cross_entropy(
            emissions.flatten(0, 1), tags.flatten(), reduction="none"
        ).view_as(tags)
        return (losses * valid(lengths, len(tags))).sum(0)

    def decode(self, emissions: Tensor, lengths: Tensor) -> Tensor:
        """emissions [T, B, C], lengths [B] -> the likeliest tags [B, T], 0 past a length."""
        return (emissions.argmax(-1) * valid(lengths, len(emissions))).t()
