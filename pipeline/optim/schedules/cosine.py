"""Cosine decay."""

import math

from pipeline.optim.base import Schedule
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting


class Cosine(Schedule):
    """Half a cosine from the peak to `min_lr_ratio` of it (Loshchilov and Hutter 2017)."""

    class Settings(OptimizerSettings):
        min_lr_ratio: float = setting(
            0.0, "final learning rate of the decay, relative to the peak", ge=0, le=1
        )

    settings: Settings

    def factor(self, progress: float) -> float:
        floor = self.settings.min_lr_ratio
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
