"""Base class of output heads.

Shapes: B rows, P features of a row's vector, C outputs, such as a score per label.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from pipeline.components import Component
from pipeline.models.settings import ModelSettings


class Head(Component, nn.Module, ABC):
    """Maps the vector of a row to the model's outputs. Runs in full precision."""

    Settings: ClassVar[type[ModelSettings]] = ModelSettings

    def __init__(self, inputs: int, outputs: int, settings: ModelSettings) -> None:
        """`inputs` is P, `outputs` is C."""
        super().__init__()

    @abstractmethod
    def forward(self, pooled: Tensor) -> Tensor:
        """Map vectors [B, P] to outputs [B, C]."""
