"""Exponential moving average (EMA) of the weights."""

import torch
from torch import nn


def update_average(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Update the averaged weights in place: average = lerp(average, model, 1 - decay).

    The decay is at most (1 + step) / (10 + step), so that early averages cover few updates. (Polyak
    and Juditsky 1992 use an unweighted average instead.)
    """
    weight = 1 - min(decay, (1 + step) / (10 + step))
    parameters = [parameter.data for parameter in model.parameters()]
    torch._foreach_lerp_([parameter.data for parameter in average.parameters()], parameters, weight)
