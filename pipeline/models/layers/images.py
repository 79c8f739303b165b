"""Embeds the steps of an image as the input of a recurrent network.

Shapes: T steps of an image, B images, F values of a step, E embedding features.
"""

import torch
from torch import Tensor, nn

from pipeline.models.dropout import keyed_uniform
from pipeline.models.settings import ModelSettings
from pipeline.settings import setting

MAX_PIXEL = 255


class ImageSteps(nn.Module):
    """Linear map of each step's pixel values, scaled to 0..1 to `model.embedding` features.

    With `model.permute` the steps are reordered by a random permutation, the same for all images
    (Le et al. 2015).
    """

    class Settings(ModelSettings):
        permute: int = setting(
            0, "seed of a fixed random order of an image's steps; 0: keep their order", ge=0
        )

    order: Tensor

    def __init__(self, width: int, steps: int, settings: Settings) -> None:
        """`width` is F, the values of a step; `steps` is T."""
        super().__init__()
        self.linear = nn.Linear(width, settings.embedding)
        order = torch.arange(steps)
        if settings.permute:
            draws = keyed_uniform(torch.tensor([settings.permute]), 0, steps)[0]  # [T]
            order = draws.argsort(stable=True)
        self.permuted = bool(settings.permute)
        self.register_buffer("order", order, persistent=False)  # follows from the settings

    def forward(self, steps: Tensor) -> Tensor:
        """Embed integer pixel values [T, B, F] as [T, B, E]."""
        if self.permuted:
            steps = steps[self.order]
        return self.linear(steps.to(self.linear.weight.dtype) / MAX_PIXEL)
