"""Linear decay."""

from pipeline.optim.base import DecaySettings, Schedule


class Linear(Schedule):
    """A straight line from the peak to `min_lr_ratio` of it at the end of the run."""

    Settings = DecaySettings
    settings: DecaySettings

    def factor(self, progress: float) -> float:
        return 1 - (1 - self.settings.min_lr_ratio) * progress
