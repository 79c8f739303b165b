"""Exponential moving average of the weights."""

import torch
from torch import nn


def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move the averaged weights towards the model's: an exponential moving average (Polyak and
    Juditsky 1992 average evenly), of fewer updates while `step` is small."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    weights = [parameter.data for parameter in model.parameters()]
    torch._foreach_lerp_([parameter.data for parameter in average.parameters()], weights, share)
