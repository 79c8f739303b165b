"""The states of a row to one vector, whatever the padding, at which states are 0.

Legend: T tokens of the longest row, B rows, D directions, H hidden units.
"""

import torch
from torch import Tensor, nn


def valid(lengths: Tensor, steps: int) -> Tensor:
    """lengths [B] -> [T, B], true where there is a token."""
    return torch.arange(steps, device=lengths.device)[:, None] < lengths


class MaxMean(nn.Module):
    """The greatest and the mean state of each feature, side by side (Howard and Ruder 2018)."""

    def __init__(self, features: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        self.outputs = 2 * features

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """states [T, B, D*H], lengths [B] -> [B, 2*D*H]."""
        mask = valid(lengths, len(states))[..., None]  # [T, B, 1]
        # max, as the gradient of amax over a CPU's bf16 takes as long as a tenth of the network
        greatest = states.masked_fill(~mask, float("-inf")).max(0).values  # [B, D*H]
        mean = states.sum(0, dtype=_wide(states)) / lengths[:, None]
        return torch.cat([greatest.to(mean.dtype), mean], -1)


class Last(nn.Module):
    """Each direction's state after the last token that it reads; one alone may read `backward`."""

    def __init__(self, features: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        self.outputs, self.hidden, self.backward = features, hidden, backward

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """states [T, B, D*H], lengths [B] -> [B, D*H]."""
        if self.backward:
            return states[0]
        rows = torch.arange(states.shape[1], device=states.device)
        forward = states[lengths - 1, rows, : self.hidden]  # [B, H]
        return torch.cat([forward, states[0, :, self.hidden :]], -1)


class AttentionPooling(nn.Module):
    """A mean weighted by a learnt score of each state (Yang et al. 2016, with its tanh layer)."""

    def __init__(self, features: int, hidden: int, backward: bool = False) -> None:
        super().__init__()
        self.outputs = features
        self.project = nn.Linear(features, features)
        self.score = nn.Linear(features, 1, bias=False)

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """states [T, B, D*H], lengths [B] -> [B, D*H]."""
        scores = self.score(torch.tanh(self.project(states))).squeeze(-1)  # [T, B]
        scores = scores.to(_wide(scores)).masked_fill(~valid(lengths, len(states)), float("-inf"))
        return (scores.softmax(0)[..., None] * states).sum(0)  # [B, D*H]


POOLINGS: dict[str, type[MaxMean] | type[Last] | type[AttentionPooling]] = {
    "max_mean": MaxMean,
    "last": Last,
    "attention": AttentionPooling,
}


def _wide(x: Tensor) -> torch.dtype:
    """The type to add up in: at least float32."""
    return torch.promote_types(x.dtype, torch.float32)
