"""Base class of poolings: a row's states become one vector, independent of padding.

Shapes: T tokens of the longest row, B rows, F features of a state, P features of the vector.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from pipeline.components import Component
from pipeline.models.settings import ModelSettings


class Pooling(Component, nn.Module, ABC):
    """Pools the states of each row. States are 0 past a row's length."""

    Settings: ClassVar[type[ModelSettings]] = ModelSettings
    outputs: int
    """P"""

    def __init__(self, features: int, settings: ModelSettings) -> None:
        """`features` is F."""
        super().__init__()

    @abstractmethod
    def forward(self, states: Tensor, lengths: Tensor) -> Tensor:
        """Pool states [T, B, F] of lengths [B] into [B, P]."""
