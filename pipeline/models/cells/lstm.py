"""Long short-term memory."""

import torch
from torch import Tensor, nn

from pipeline.models.cells.cell import Dense
from pipeline.models.cells.fused import run_fused_layer
from pipeline.models.settings import ModelSettings


class Lstm(Dense):
    """LSTM (Hochreiter and Schmidhuber 1997) with a forget gate (Gers et al. 2000), no peepholes:

        i, f, o = sigmoid(W x + U h' + b) each,  g = tanh(W_g x + U_g h' + b_g)
        c = f c' + i g,  h = o tanh(c)

    The forget gate's bias is initialized to `forget_bias` (Jozefowicz et al. 2015: 1).
    """

    gates = 4  # i, f, g, o

    def __init__(self, input_size: int, settings: ModelSettings) -> None:
        super().__init__(input_size, settings)
        nn.init.constant_(self.bias.data[self.units : 2 * self.units], settings.forget_bias)

    def step(self, wx: Tensor, uh: Tensor, last_h: Tensor, last_c: Tensor) -> tuple[Tensor, Tensor]:
        i, f, g, o = (wx + uh).chunk(4, -1)
        c = f.sigmoid() * last_c + i.sigmoid() * g.tanh()
        return (o.sigmoid() * c.tanh()).to(wx.dtype), c

    def run_fused(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        y, _, last_c = run_fused_layer(torch.lstm, x, [h, c], self.torch_weights())
        return y, last_c
