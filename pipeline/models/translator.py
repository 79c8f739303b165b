"""Texts to texts: an encoder's states, and a decoder that attends to them.

Legend: S source tokens of the longest row, T' target tokens, B rows, E embedding, M features of a
source state, P of the read-out, V vocabulary of the target, N hypotheses.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.models.decoder import Decoder, Memory
from pipeline.models.dropout import LockedDropout, TokenDropout
from pipeline.models.encoder import encoder
from pipeline.models.recurrent import State
from pipeline.models.settings import ModelSettings

DECODER = 2000
"""Places of the decoder's dropouts, behind those of the encoder."""


class Translator(nn.Module):
    """A recurrent encoder and a recurrent decoder with attention (Bahdanau et al. 2015)."""

    def __init__(self, settings: ModelSettings, source: int, target: int | None = None) -> None:
        """`source` and `target` tokens in the vocabularies; without `target` it is one vocabulary
        and one embedding for both."""
        super().__init__()
        s = settings
        self.embedding = None  # shared weights have one name, the decoder's
        if target is not None:
            self.embedding = nn.Embedding(source, s.embedding)
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.token_dropout = TokenDropout(s.embedding_dropout, site=0)
        self.input_dropout = LockedDropout(s.dropout, site=1)
        self.stack = encoder(s.embedding, s, site=2)
        self.memory_dropout = LockedDropout(s.dropout, site=1000)
        summary = s.hidden * (1 + s.bidirectional)
        vocabulary = source if target is None else target
        self.decoder = Decoder(s, vocabulary, self.stack.outputs, summary, DECODER)

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        target_lengths: Tensor,
        keys: Tensor,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """source [B, S], lengths [B] in 1..S, target [B, T'] from <s> on, target_lengths [B] in
        1..T', keys [B] (of dropout) -> the scores of what follows each target token [T', B, V], or
        of the n places alone that are true in `wanted` [T', B]: [n, V], step by step. What stands
        past a target's length means nothing."""
        memory = self.encode(source, lengths, keys)
        features = self.decoder(target, target_lengths, keys, memory)  # [T', B, P]
        return self.decoder.scores(features if wanted is None else features[wanted])

    def encode(self, source: Tensor, lengths: Tensor, keys: Tensor) -> Memory:
        """source [B, S], lengths [B] in 1..S, keys [B]. The summary that the decoder begins with is
        the last state of each direction of the top layer."""
        embedding = self.decoder.embedding if self.embedding is None else self.embedding
        x = self.input_dropout(self.token_dropout(embedding(source.t()), keys), keys)  # [S, B, E]
        states, after = self.stack(x, lengths, keys)  # [S, B, M]
        summary = after[-1].h.transpose(0, 1).flatten(1)  # [B, D * H]
        return self.decoder.remember(self.memory_dropout(states, keys), lengths, summary)

    def step(
        self, tokens: Tensor, state: Sequence[State], memory: Memory
    ) -> tuple[Tensor, list[State], Tensor]:
        """`Decoder.step`."""
        return self.decoder.step(tokens, state, memory)
