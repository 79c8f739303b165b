"""The gated recurrent unit."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cells.cell import Dense
from pipeline.models.settings import ModelSettings


class Gru(Dense):
    """Cho et al. 2014, in cuDNN's form, which resets after the product:

    r, z = sigmoid(W x + U h' + b) each,  n = tanh(W_n x + b_n + r (U_n h' + d_n))
    h = (1 - z) n + z h'
    """

    gates = 3  # r, z, n

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__(inputs, settings)
        self.hidden_bias = nn.Parameter(torch.zeros(self.units))  # [H] d_n

    def apart(self) -> Tensor:
        return self.hidden_bias

    def params(self) -> list[Tensor]:
        second = functional.pad(self.hidden_bias, [2 * self.units, 0])
        return [self.input, self.recurrent(), self.bias, second]

    def step(self, wx: Tensor, uh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        (r, z, n), (u_r, u_z, u_n) = wx.chunk(3, -1), uh.chunk(3, -1)
        bias = self.hidden_bias.to(wx.dtype)
        n = torch.tanh(n + (r + u_r).sigmoid() * (u_n + bias))
        return torch.lerp(n, h, (z + u_z).sigmoid()), c

    def layer(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        trains = torch.is_grad_enabled()
        y, _ = torch.gru(x, h[None].to(x), self.params(), True, 1, 0.0, trains, False, False)
        return y, c
