"""Linear head."""

from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.head import Head
from pipeline.models.settings import ModelSettings


class LinearHead(Head):
    """A linear layer, initialized as PyTorch's."""

    def __init__(self, inputs: int, outputs: int, settings: ModelSettings) -> None:
        super().__init__(inputs, outputs, settings)
        layer = nn.Linear(inputs, outputs)
        # The names of the parameters are keys in checkpoints.
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, pooled: Tensor) -> Tensor:
        return functional.linear(pooled, self.weight, self.bias)
