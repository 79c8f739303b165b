"""A constant learning rate."""

from pipeline.optim.base import Schedule


class Constant(Schedule):
    """The peak until the end of the run."""

    def factor(self, progress: float) -> float:
        return 1.0
