"""Long short-term memory."""

import torch
from torch import Tensor, nn

from pipeline.models.cell import Dense
from pipeline.models.fused import run_fused_layer
from pipeline.models.settings import ModelSettings
from pipeline.settings import setting


class Lstm(Dense):
    """LSTM (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000), no peepholes:

        i, f, o = sigmoid(W x + U h' + b) each,  g = tanh(W_g x + U_g h' + b_g)
        c = f c' + i g,  h = o tanh(c)

    The forget gate's bias is initialized to `forget_bias` (Jozefowicz et al. 2015: 1).
    """

    class Settings(ModelSettings):
        forget_bias: float = setting(1.0, "initial bias of the forget gate")
        zoneout_memory: float = setting(
            0.0, "probability that a memory cell keeps its state at a token", ge=0, lt=1
        )

        @property
        def zoneout_probabilities(self) -> tuple[float, float]:
            return self.zoneout, self.zoneout_memory

    gates = 4  # i, f, g, o
    has_memory = True

    def __init__(self, input_size: int, settings: Settings) -> None:
        super().__init__(input_size, settings)
        nn.init.constant_(self.bias.data[self.units : 2 * self.units], settings.forget_bias)

    @property
    def kernel(self) -> str:
        return "lstm"

    def step(self, wx: Tensor, uh: Tensor, last_h: Tensor, last_c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (wx + uh).chunk(4, -1)
        c = f.sigmoid() * last_c + i.sigmoid() * g.tanh()
        return (o.sigmoid() * c.tanh()).to(wx.dtype), c

    def run_fused(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        y, _, last_c = run_fused_layer(torch.lstm, x, [h, c], self.torch_weights())
        return y, last_c
