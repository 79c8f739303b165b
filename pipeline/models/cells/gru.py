"""The gated recurrent unit."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cell import Dense
from pipeline.models.fused import run_fused_layer
from pipeline.models.settings import ModelSettings


class Gru(Dense):
    """GRU (Cho et al. 2014) as in cuDNN, which applies the reset gate after the product:

    r, z = sigmoid(W x + U h' + b) each,  n = tanh(W_n x + b_n + r (U_n h' + d_n))
    h = (1 - z) n + z h'
    """

    gates = 3  # r, z, n

    def __init__(self, input_size: int, settings: ModelSettings) -> None:
        super().__init__(input_size, settings)
        self.hidden_bias = nn.Parameter(torch.zeros(self.units))  # d_n [H]

    def candidate_bias(self) -> Tensor:
        return self.hidden_bias

    def torch_weights(self) -> list[Tensor]:
        hidden_bias = functional.pad(self.hidden_bias, [2 * self.units, 0])  # 0 for r and z
        return [self.input, self.recurrent_weight(), self.bias, hidden_bias]

    @property
    def kernel(self) -> str:
        return "gru"

    def step(self, wx: Tensor, uh: Tensor, last_h: Tensor, last_c: Tensor) -> tuple[Tensor, Tensor]:
        (r, z, n), (u_r, u_z, u_n) = wx.chunk(3, -1), uh.chunk(3, -1)
        bias = self.hidden_bias.to(wx.dtype)
        n = torch.tanh(n + (r + u_r).sigmoid() * (u_n + bias))
        return torch.lerp(n, last_h, (z + u_z).sigmoid()), last_c

    def run_fused(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        y, _ = run_fused_layer(torch.gru, x, [h], self.torch_weights())
        return y, c
