"""Pooling of a row's states into one vector, independent of padding.

The states that these modules take are 0 past a row's length.

Shapes: T tokens of the longest row, B rows, D directions, H hidden units.
"""

import torch
from torch import Tensor, nn


def valid(lengths: Tensor, steps: int) -> Tensor:
    """Return the mask [T, B] of tokens that are not padding, for lengths [B] and T = `steps`."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


class MaxMean(nn.Module):
    """Each feature's maximum and mean over the row, concatenated (Howard and Ruder 2018)."""

    def __init__(self, features: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        self.outputs = 2 * features

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Pool states [T, B, D*H] of lengths [B] into [B, 2*D*H]."""
        mask = valid(lengths, len(states))[..., None]  # [T, B, 1]
        # max, not amax: on a CPU amax's bf16 gradient takes a tenth of the network's time.
        maximum = states.masked_fill(~mask, float("-inf")).max(0).values  # [B, D*H]
        mean = states.sum(0, dtype=_wide_dtype(states)) / lengths[:, None]
        return torch.cat([maximum.to(mean.dtype), mean], -1)


class Last(nn.Module):
    """Each direction's state after the last token that it reads.

    `backward` means that the only direction reads from the end of the row.
    """

    def __init__(self, features: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        self.outputs, self.hidden, self.backward = features, hidden, backward

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Pool states [T, B, D*H] of lengths [B] into [B, D*H]."""
        if self.backward:
            return states[0]
        rows = torch.arange(states.shape[1], device=states.device)
        forward = states[lengths - 1, rows, : self.hidden]  # [B, H]
        return torch.cat([forward, states[0, :, self.hidden :]], -1)


class AttentionPooling(nn.Module):
    """Mean of the states, weighted by the softmax of a learned score of each state, with a tanh
    layer (Yang et al. 2016)."""

    def __init__(self, features: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        self.outputs = features
        self.project = nn.Linear(features, features)
        self.score = nn.Linear(features, 1, bias=False)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Pool states [T, B, D*H] of lengths [B] into [B, D*H]."""
        scores = self.score(torch.tanh(self.project(states))).squeeze(-1)  # [T, B]
        padding = ~valid(lengths, len(states))
        scores = scores.to(_wide_dtype(scores)).masked_fill(padding, float("-inf"))
        return (scores.softmax(0)[..., None] * states).sum(0)  # [B, D*H]


POOLINGS: dict[str, type[MaxMean] | type[Last] | type[AttentionPooling]] = {
    "max_mean": MaxMean,
    "last": Last,
    "attention": AttentionPooling,
}
"""Poolings by their name in a config."""


def _wide_dtype(x: Tensor) -> torch.dtype:
    """Return the data type in which to accumulate: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)
