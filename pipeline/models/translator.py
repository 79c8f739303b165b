"""Translation model: a recurrent encoder and a decoder that attends to the encoder's states.

Shapes: S source tokens of the longest row, B rows, E embedding width, M features of a source state,
D directions, H hidden units.
"""

from torch import Tensor, nn

from pipeline.models.decoding.decoder import Decoder, Memory
from pipeline.models.decoding.seq2seq import EncoderDecoder
from pipeline.models.dropout import LockedDropout, TokenDropout, assign_dropout_sites
from pipeline.models.encoder import encoder
from pipeline.models.settings import EncoderSettings
from pipeline.settings import setting


class Translator(EncoderDecoder):
    """A recurrent encoder and a recurrent decoder with attention (Bahdanau et al. 2015)."""

    class Settings(Decoder.Settings, EncoderSettings):
        decoder_layers: int = setting(0, "number of decoder layers; 0: same as the encoder", ge=0)

    def __init__(
        self, settings: Settings, source_vocab_size: int, target_vocab_size: int | None = None
    ) -> None:
        """Without `target_vocab_size`, source and target share a vocabulary and an embedding."""
        super().__init__()
        s = settings
        self.embedding = None  # a shared embedding is registered once, in the decoder
        if target_vocab_size is not None:
            self.embedding = nn.Embedding(source_vocab_size, s.embedding)
            nn.init.normal_(self.embedding.weight, std=0.1)
        self.token_dropout = TokenDropout(s.embedding_dropout)
        self.input_dropout = LockedDropout(s.dropout)
        self.stack = encoder(s.embedding, s)
        self.memory_dropout = LockedDropout(s.dropout)
        summary_size = s.hidden * (1 + s.bidirectional)
        vocab_size = source_vocab_size if target_vocab_size is None else target_vocab_size
        layers = s.decoder_layers or s.layers
        self.decoder = Decoder(s, layers, vocab_size, self.stack.outputs, summary_size)
        assign_dropout_sites(self)

    def encode(self, source: Tensor, lengths: Tensor, keys: Tensor) -> Memory:
        """Encode source [B, S]; lengths [B] in 1..S; dropout keys [B].

        The summary that initializes the decoder is the final state of each direction of the top
        layer.
        """
        embedding = self.decoder.embedding if self.embedding is None else self.embedding
        x = self.input_dropout(self.token_dropout(embedding(source.t()), keys), keys)  # [S, B, E]
        states, final_state = self.stack(x, lengths, keys)  # [S, B, M]
        summary = final_state[-1].h.transpose(0, 1).flatten(1)  # [B, D * H]
        return self.decoder.build_memory(self.memory_dropout(states, keys), lengths, summary)
