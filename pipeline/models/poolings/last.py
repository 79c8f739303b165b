"""Last state."""

import torch
from torch import Tensor

from pipeline.models.pooling import Pooling
from pipeline.models.settings import ModelSettings


class Last(Pooling):
    """Each direction's state after the last token that it reads.

    The features of a state are the hidden units of the forward direction, then those of the
    backward direction, if there is one. With `model.reverse` the only direction reads backward.
    """

    def __init__(self, features: int, settings: ModelSettings) -> None:
        super().__init__(features, settings)
        self.outputs, self.hidden = features, settings.hidden
        self.backward = bool(getattr(settings, "reverse", False))

    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        if self.backward:
            return states[0]
        rows = torch.arange(states.shape[1], device=states.device)
        forward = states[lengths - 1, rows, : self.hidden]  # [B, H]
        return torch.cat([forward, states[0, :, self.hidden :]], -1)
