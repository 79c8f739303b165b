"""The gated orthogonal recurrent unit, and orthogonal matrices made of rotations.

Legend: T tokens, B rows, H units, L layers of rotations.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cells.cell import Cell
from pipeline.models.settings import ModelSettings

EPSILON = 1e-3
"""Added to what modReLU thresholds, as in the authors' code."""


class Goru(Cell):
    """Jing et al. 2017 (arXiv 1706.02761), initialised as in the authors' code:

        r, g = sigmoid(W x + U h' + b) each
        n = modReLU(W_n x + r Q h'),  h = (1 - g) n + g h'
        modReLU(a) = sign(a) max(0, |a| + 0.001 + d)

    Q is orthogonal: a product of rotations (`Rotations`), made once a pass, in float32 at least.
    """

    gates = 3  # r, g, n

    def __init__(self, inputs: int, settings: ModelSettings) -> None:
        super().__init__(inputs, settings)
        self.hidden = nn.Parameter(torch.empty(2 * self.units, self.units))  # [2H, H] U_r, U_g
        self.threshold = nn.Parameter(torch.full((self.units,), 0.01))  # [H] d
        self.rotations = Rotations(self.units, settings.goru_capacity)
        for weight in (self.input, self.hidden):
            nn.init.uniform_(weight, -0.01, 0.01)
        nn.init.constant_(self.bias.data[: self.units], 2.0)

    def recurrent(self) -> Tensor:
        return torch.cat([self.drop(self.hidden), self.rotations()])

    def apart(self) -> Tensor:
        return self.threshold

    def step(self, wx: Tensor, uh: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        (r, g, n), (u_r, u_g, q) = wx.chunk(3, -1), uh.chunk(3, -1)
        n = mod_relu(n + (r + u_r).sigmoid() * q, self.threshold)
        return torch.lerp(n, h, (g + u_g).sigmoid()), c


def mod_relu(x: Tensor, threshold: Tensor) -> Tensor:
    return x.sign() * functional.relu(x.abs() + EPSILON + threshold.to(x.dtype))


class Rotations(nn.Module):
    """An orthogonal matrix of L layers of plane rotations (EUNN, Jing et al. 2017, arXiv
    1612.05231), each layer one of every pair of coordinates.

    `capacity` 0 is the FFT style, whose layer k pairs i with i XOR n / 2^(k+1): log2 n layers reach
    from each coordinate to each. Otherwise it is L, and layers pair (0, 1), (2, 3), ... and
    (1, 2), (3, 4), ... by turns.
    """

    sign: Tensor
    partner: Tensor
    angle_of: Tensor

    def __init__(self, units: int, capacity: int = 0) -> None:
        super().__init__()
        i = torch.arange(units)
        if capacity:
            odd = torch.arange(capacity)[:, None] % 2  # [L, 1]
            partner = i + 1 - 2 * ((i + odd) % 2)  # [L, H]
            partner = torch.where((partner < 0) | (partner >= units), i, partner)
        else:
            halves = units >> torch.arange(1, int(math.log2(units)) + 1)  # [L]
            partner = i ^ halves[:, None]
        # [L * H/2]; a vector, as decay would turn Q towards the identity
        self.angles = nn.Parameter(torch.empty(len(partner) * (units // 2)))
        nn.init.uniform_(self.angles, -3.14, 3.14)
        lower = i < partner  # [L, H] the first of a pair
        first = torch.minimum(i, partner)
        angle_of = (lower.cumsum(-1) - 1).gather(1, first).clamp(min=0)
        sign = torch.where(lower, -1.0, 1.0) * (partner != i)  # 0 for a coordinate without partner
        self.register_buffer("partner", partner, persistent=False)
        self.register_buffer("angle_of", angle_of, persistent=False)
        self.register_buffer("sign", sign, persistent=False)

    def forward(self) -> Tensor:
        """[H, H]"""
        angles = self.angles.view(len(self.partner), -1).gather(1, self.angle_of)  # [L, H]
        cosine = torch.where(self.sign == 0, 1.0, angles.cos())
        sine = angles.sin() * self.sign
        q = torch.eye(angles.shape[1], dtype=angles.dtype, device=angles.device)
        for c, s, partner in zip(cosine, sine, self.partner, strict=True):
            q = c[:, None] * q + s[:, None] * q[partner]
        return q
