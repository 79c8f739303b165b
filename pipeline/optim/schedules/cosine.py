"""Cosine decay."""

import math

from pipeline.optim.base import DecaySettings, Schedule


class Cosine(Schedule):
    """Half a cosine from the peak to `min_lr_ratio` of it (Loshchilov and Hutter 2017)."""

    Settings = DecaySettings
    settings: DecaySettings

    def factor(self, progress: float) -> float:
        floor = self.settings.min_lr_ratio
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))
