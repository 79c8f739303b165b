"""Texts to texts: an encoder's states, and a decoder that attends to them.

Legend: S source tokens of the longest row, B rows, E embedding, M features of a source state, D
directions, H hidden units.
"""

from torch import Tensor, nn

from pipeline.models.decoding.decoder import Decoder, Memory
from pipeline.models.decoding.seq2seq import EncoderDecoder
from pipeline.models.dropout import LockedDropout, TokenDropout
from pipeline.models.encoder import encoder
from pipeline.models.settings import ModelSettings

DECODER = 2000
"""Places of the decoder's dropouts, behind those of the encoder."""


class Translator(EncoderDecoder):
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

    def encode(self, source: Tensor, lengths: Tensor, keys: Tensor) -> Memory:
        """source [B, S], lengths [B] in 1..S, keys [B]. The summary that the decoder begins with is
        the last state of each direction of the top layer."""
        embedding = self.decoder.embedding if self.embedding is None else self.embedding
        x = self.input_dropout(self.token_dropout(embedding(source.t()), keys), keys)  # [S, B, E]
        states, after = self.stack(x, lengths, keys)  # [S, B, M]
        summary = after[-1].h.transpose(0, 1).flatten(1)  # [B, D * H]
        return self.decoder.remember(self.memory_dropout(states, keys), lengths, summary)
