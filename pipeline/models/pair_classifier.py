"""Classifier of two texts.

Shapes: T and T' tokens of the longest text of each kind, B rows, P features of a text's vector, C
outputs.
"""

import torch
from torch import Tensor

from pipeline.models.classifier import Classifier

SECOND_KEY_OFFSET = 0x5851F42D4C957F2D
"""Difference between the dropout keys of a row's two texts, so that their masks differ."""


class PairClassifier(Classifier):
    """One encoder reads both texts; the head sees u, v, |u - v| and u * v of their vectors
    (Conneau et al. 2017, arXiv 1705.02364)."""

    @property
    def head_inputs(self) -> int:
        return 4 * super().head_inputs

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor,
        keys: Tensor,
        pair: Tensor | None = None,
        pair_lengths: Tensor | None = None,
    ) -> Tensor:
        """Return the class scores [B, C].

        tokens [B, T] and pair [B, T'] of the two texts; their lengths [B]; dropout keys [B].
        """
        return self.outputs(self.pool_pair(tokens, lengths, keys, pair, pair_lengths))

    def pool_pair(
        self,
        tokens: Tensor,
        lengths: Tensor,
        keys: Tensor,
        pair: Tensor | None,
        pair_lengths: Tensor | None,
    ) -> Tensor:
        """Return u, v, |u - v| and u * v of each pair [B, 4 * P]; arguments as for `forward`."""
        assert pair is not None, "one text"
        assert pair_lengths is not None, "one text"
        u = self.pool(tokens, lengths, keys)
        v = self.pool(pair, pair_lengths, keys + SECOND_KEY_OFFSET)
        return torch.cat([u, v, (u - v).abs(), u * v], -1)
