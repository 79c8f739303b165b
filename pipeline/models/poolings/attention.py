"""Attention pooling."""

import torch
from torch import Tensor, nn

from pipeline.models.layers.masks import valid, wide_dtype
from pipeline.models.pooling import Pooling
from pipeline.models.settings import ModelSettings


class AttentionPooling(Pooling):
    """Mean of the states, weighted by the softmax of a learned score of each state, with a tanh
    layer (Yang et al. 2016)."""

    def __init__(self, features: int, settings: ModelSettings) -> None:
        super().__init__(features, settings)
        self.outputs = features
        self.project = nn.Linear(features, features)
        self.score = nn.Linear(features, 1, bias=False)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        scores = self.score(torch.tanh(self.project(states))).squeeze(-1)  # [T, B]
        padding = ~valid(lengths, len(states))
        scores = scores.to(wide_dtype(scores)).masked_fill(padding, float("-inf"))
        return (scores.softmax(0)[..., None] * states).sum(0)  # [B, F]
