"""Linear decay."""

from pipeline.optim.base import Schedule
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting


class Linear(Schedule):
    """A straight line from the peak to `min_lr_ratio` of it at the end of the run."""

    class Settings(OptimizerSettings):
        min_lr_ratio: float = setting(
            0.0, "final learning rate of the decay, relative to the peak", ge=0, le=1
        )

    settings: Settings

    def factor(self, progress: float) -> float:
        return 1 - (1 - self.settings.min_lr_ratio) * progress
