"""Base classes of the components that `train.optimizer` and `train.schedule` choose."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from pipeline.components import Component
from pipeline.optim.settings import OptimizerSettings
from pipeline.settings import setting


class OptimComponent(Component, ABC):
    """What optimizers and schedules have in common."""

    Settings: ClassVar[type[OptimizerSettings]] = OptimizerSettings
    """The component's keys in the section `train`, added to those of all runs."""

    def __init__(self, settings: OptimizerSettings) -> None:
        self.settings = settings

    def evaluated(self, loss: float) -> None:
        """Take the validation loss of an evaluation, for components that depend on it."""

    def state_dict(self) -> dict[str, Any]:
        """Return the component's own state, as JSON; that of torch's optimizers is kept anyway."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class Algorithm(OptimComponent):
    """An optimization algorithm: builds PyTorch's optimizers of a run."""

    has_average: ClassVar[bool] = False
    """Whether `averaged` returns weights, which are then evaluated and saved as the model."""

    @abstractmethod
    def build(self, groups: list[dict[str, Any]]) -> list[torch.optim.Optimizer]:
        """Return the optimizers of the parameter groups; each parameter has exactly one.

        A group has `params`, `weight_decay` and other entries, which must be kept; see
        `pipeline.optim.groups`.
        """

    def averaged(self) -> dict[Tensor, Tensor]:
        """Return the averaged weights by parameter; those that are missing are not averaged."""
        return {}


class DecaySettings(OptimizerSettings):
    """Keys of schedules that end at a share of the peak."""

    min_lr_ratio: float = setting(
        0.0, "final learning rate of the decay, relative to the peak", ge=0, le=1
    )


class Schedule(OptimComponent):
    """A learning-rate schedule after the warm-up, which all schedules have."""

    @abstractmethod
    def factor(self, progress: float) -> float:
        """Return the learning rate relative to the peak.

        `progress` is the share of the run's rows consumed since the end of the warm-up, 0 to 1.
        """
