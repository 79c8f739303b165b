"""Base class of sequence-to-sequence models.

Shapes: S source steps of the longest row, T' target tokens of the longest text, B rows, K target
texts per row, N = K * B target texts (the first of every row, then the second of every row, ...), P
decoder output features, V target vocabulary size.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.models.decoding.decoder import Decoder, Memory
from pipeline.models.layers.recurrent import LayerState


class EncoderDecoder(nn.Module, ABC):
    """An encoder, and a recurrent decoder that attends to the encoder's states."""

    decoder: Decoder

    @abstractmethod
    def encode(self, source: Tensor, lengths: Tensor, keys: Tensor) -> Memory:
        """Encode source [B, S, ...]; lengths [B] in 1..S; dropout keys [B]."""

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        target_lengths: Tensor,
        keys: Tensor,
        score_positions: Tensor | None = None,
    ) -> Tensor:
        """Return the scores of the token after each target token [T', N, V].

        source [B, S, ...]; lengths [B] in 1..S; target [N, T'], starting with <s>; target_lengths
        [N] in 1..T'; dropout keys [B]. With `score_positions` [n], indices into the flattened
        [T', N] tokens, only these are scored, and the result is [n, V]. Scores past a target's
        length are meaningless.
        """
        memory = self.encode(source, lengths, keys)
        features = self.decoder(target, target_lengths, keys, memory)  # [T', N, P]
        if score_positions is not None:
            features = features.flatten(0, 1).index_select(0, score_positions)  # [n, P]
        return self.decoder.scores(features)

    def step(
        self, tokens: Tensor, state: Sequence[LayerState], memory: Memory
    ) -> tuple[Tensor, list[LayerState], Tensor]:
        """Decode one token; see `Decoder.step`."""
        return self.decoder.step(tokens, state, memory)
