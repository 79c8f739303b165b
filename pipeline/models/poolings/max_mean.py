"""Maximum and mean."""

import torch
from torch import Tensor

from pipeline.models.layers.masks import valid, wide_dtype
from pipeline.models.pooling import Pooling
from pipeline.models.settings import ModelSettings


class MaxMean(Pooling):
    """Each feature's maximum and mean over the row, concatenated (Howard and Ruder 2018)."""

    def __init__(self, features: int, settings: ModelSettings) -> None:
        super().__init__(features, settings)
        self.outputs = 2 * features

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        mask = valid(lengths, len(states))[..., None]  # [T, B, 1]
        # max, not amax: on a CPU amax's bf16 gradient takes a tenth of the network's time.
        maximum = states.masked_fill(~mask, float("-inf")).max(0).values  # [B, F]
        mean = states.sum(0, dtype=wide_dtype(states)) / lengths[:, None]
        return torch.cat([maximum.to(mean.dtype), mean], -1)
