"""Steps of an image to what a recurrent network reads.

Legend: T steps of an image, B images, F figures of a step, E embedding.
"""

import torch
from torch import Tensor, nn

from pipeline.models.dropout import keyed_uniform
from pipeline.models.settings import ModelSettings

BRIGHTEST = 255


class ImageSteps(nn.Module):
    """A linear layer of `model.embedding` units for each step, whose figures go from 0 to 1. With
    `model.permute` the steps come in an order of their own, the same for all images (Le et al.
    2015)."""

    order: Tensor

    def __init__(self, figures: int, steps: int, settings: ModelSettings) -> None:
        super().__init__()
        self.linear = nn.Linear(figures, settings.embedding)
        order = torch.arange(steps)
        if settings.permute:
            draws = keyed_uniform(torch.tensor([settings.permute]), 0, steps)[0]  # [T]
            order = draws.argsort(stable=True)
        self.permuted = bool(settings.permute)
        self.register_buffer("order", order, persistent=False)  # the settings say it

    def forward(self, steps: Tensor) -> Tensor:
        """Whole numbers [T, B, F] -> [T, B, E]."""
        if self.permuted:
            steps = steps[self.order]
        return self.linear(steps.to(self.linear.weight.dtype) / BRIGHTEST)
