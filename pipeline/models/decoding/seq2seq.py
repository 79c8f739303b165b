"""A network that reads something and writes texts of it.

Legend: S source steps of the longest row, T' target tokens of the longest text, B rows, K texts a
row, N = K * B of them (the first of all rows, the second of all rows, ...), P features of the
read-out, V vocabulary of the target.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from pipeline.models.decoding.decoder import Decoder, Memory
from pipeline.models.layers.recurrent import LayerState


class EncoderDecoder(nn.Module, ABC):
    """An encoder, whose states a recurrent decoder attends to."""

    decoder: Decoder

    @abstractmethod
    def encode(self, source: Tensor, lengths: Tensor, keys: Tensor) -> Memory:
        """source [B, S, ...], lengths [B] in 1..S, keys [B] (of dropout)."""

    def forward(
        self,
        source: Tensor,
        lengths: Tensor,
        target: Tensor,
        target_lengths: Tensor,
        keys: Tensor,
        wanted: Tensor | None = None,
    ) -> Tensor:
        """source [B, S, ...], lengths [B] in 1..S, target [N, T'] from <s> on, target_lengths [N]
        in 1..T', keys [B] (of dropout) -> the scores of what follows each target token [T', N, V],
        or of the n places alone that are true in `wanted` [T', N]: [n, V], step by step. What
        stands past a target's length means nothing."""
        memory = self.encode(source, lengths, keys)
        features = self.decoder(target, target_lengths, keys, memory)  # [T', N, P]
        return self.decoder.scores(features if wanted is None else features[wanted])

    def step(
        self, tokens: Tensor, state: Sequence[LayerState], memory: Memory
    ) -> tuple[Tensor, list[LayerState], Tensor]:
        """`Decoder.step`."""
        return self.decoder.step(tokens, state, memory)
