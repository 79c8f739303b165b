"""Head with a hidden layer."""

from torch import Tensor, nn

from pipeline.models.head import Head
from pipeline.models.settings import ModelSettings
from pipeline.settings import setting


class MlpHead(Head):
    """A hidden layer with ReLU, then a linear layer (as in ULMFiT, Howard and Ruder 2018)."""

    class Settings(ModelSettings):
        head_size: int = setting(64, "units of the head's hidden layer", ge=1)

    def __init__(self, inputs: int, outputs: int, settings: Settings) -> None:
        super().__init__(inputs, outputs, settings)
        self.hidden = nn.Linear(inputs, settings.head_size)
        self.scores = nn.Linear(settings.head_size, outputs)

    def forward(self, pooled: Tensor) -> Tensor:
        return self.scores(self.hidden(pooled).relu())
