"""Warm-up, a constant phase, and a decay at the end."""

from pipeline.optim.base import DecaySettings, Schedule
from pipeline.settings import setting


class WarmupStableDecay(Schedule):
    """The peak, then a line to `min_lr_ratio` of it (Hu et al. 2024, arXiv 2404.06395)."""

    class Settings(DecaySettings):
        decay_fraction: float = setting(
            0.1, "fraction of training, after the warm-up, in which the learning rate falls", gt=0,
            le=1,
        )  # fmt: skip

    settings: Settings

    def factor(self, progress: float) -> float:
        fraction = self.settings.decay_fraction
        into_decay = max(0.0, progress - (1 - fraction)) / fraction
        return 1 - (1 - self.settings.min_lr_ratio) * into_decay
