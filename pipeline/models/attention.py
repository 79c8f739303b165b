"""Base class of attentions of a decoder's states over an encoder's states.

All target steps attend to all source states at once: the decoder's states do not depend on the
contexts (no input feeding).

Shapes: T' target steps, S source steps of the longest row, B rows, Q features of a query, M
features of a source state, A features of a key.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.components import Component
from pipeline.models.layers.masks import valid, wide_dtype
from pipeline.models.settings import ModelSettings


class Attention(Component, nn.Module, ABC):
    """Mean of the source states for each query, weighted by the softmax of their scores."""

    Settings: ClassVar[type[ModelSettings]] = ModelSettings

    def __init__(self, queries: int, memory: int, settings: ModelSettings) -> None:
        """`queries` is Q, `memory` is M."""
        super().__init__()
        size = self.key_size(queries, settings)
        self.key = nn.Linear(memory, size)
        nn.init.xavier_uniform_(self.key.weight)
        nn.init.zeros_(self.key.bias)

    @abstractmethod
    def key_size(self, queries: int, settings: ModelSettings) -> int:
        """Return A, given Q."""

    def keys(self, memory: Tensor) -> Tensor:
        """Compute the keys, which all queries share: [S, B, M] -> [S, B, A]."""
        return self.key(memory)

    @abstractmethod
    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score all pairs: [T', B, Q], [S, B, A] -> [B, T', S], up to a constant per (b, t')."""

    def forward(
        self, queries: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attend to the source states.

        Takes queries [T', B, Q], memory [S, B, M], its keys [S, B, A] and lengths [B] in 1..S.
        Returns contexts [T', B, M] and weights [T', B, S], which are in at least float32 and 0 past
        a row's length.
        """
        scores = self.scores(queries, keys)  # [B, T', S]
        padding = ~valid(lengths, len(memory)).t()[:, None]  # [B, 1, S]
        weights = scores.to(wide_dtype(scores)).masked_fill(padding, float("-inf")).softmax(-1)
        contexts = torch.bmm(weights.to(memory.dtype), memory.transpose(0, 1))  # [B, T', M]
        return contexts.transpose(0, 1), weights.transpose(0, 1)
