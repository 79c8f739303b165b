"""The gated orthogonal recurrent unit (GORU), and orthogonal matrices as products of rotations.

Shapes: T tokens, B rows, H hidden units, L layers of rotations.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.cell import Cell
from pipeline.models.settings import ModelSettings
from pipeline.settings import Conflict, Sections, setting

MOD_RELU_EPSILON = 1e-3
"""Added to |a| in modReLU, as in the authors' code."""


class Goru(Cell):
    """GORU (Jing et al. 2017, arXiv 1706.02761), initialized as in the authors' code:

        r, g = sigmoid(W x + U h' + b) each
        n = modReLU(W_n x + r Q h'),  h = (1 - g) n + g h'
        modReLU(a) = sign(a) max(0, |a| + 0.001 + d)

    Q is orthogonal: a product of rotations (`Rotations`), computed once per forward pass, in at
    least float32.
    """

    class Settings(ModelSettings):
        goru_capacity: int = setting(
            0,
            "number of rotation layers between neighboring units, must be even; 0: FFT style, "
            "where hidden must be a power of two",
            ge=0,
        )

    gates = 3  # r, g, n

    @classmethod
    def conflicts(cls, config: Sections) -> Iterator[Conflict]:
        model = config.model
        for name in ("hidden", "characters"):  # characters: of a tagger
            units = getattr(model, name, 0)
            if units == 1:
                yield Conflict(f"model.{name}", "goru rotates pairs of units", "set 2 or more")
            if not model.goru_capacity and units & (units - 1):
                lower = 1 << (units.bit_length() - 1)
                yield Conflict(
                    f"model.{name}",
                    "must be a power of two in the FFT style of goru (model.goru_capacity=0)",
                    f"set model.{name}={lower} or {2 * lower}, or an even model.goru_capacity",
                )
        if model.goru_capacity % 2:
            yield Conflict(
                "model.goru_capacity",
                "must be even: rotation layers come in pairs, because a single one connects each "
                "unit to only one neighbor",
                f"set {model.goru_capacity + 1}",
            )

    def __init__(self, input_size: int, settings: Settings) -> None:
        super().__init__(input_size, settings)
        self.hidden = nn.Parameter(torch.empty(2 * self.units, self.units))  # U_r, U_g [2H, H]
        self.threshold = nn.Parameter(torch.full((self.units,), 0.01))  # d [H]
        self.rotations = Rotations(self.units, settings.goru_capacity)
        for weight in (self.input, self.hidden):
            nn.init.uniform_(weight, -0.01, 0.01)
        nn.init.constant_(self.bias.data[: self.units], 2.0)

    @property
    def kernel(self) -> str:
        return "goru"

    def recurrent_weight(self) -> Tensor:
        return torch.cat([self.drop(self.hidden), self.rotations()])

    def candidate_bias(self) -> Tensor:
        return self.threshold

    def step(self, wx: Tensor, uh: Tensor, last_h: Tensor, last_c: Tensor) -> tuple[Tensor, Tensor]:
        (r, g, n), (u_r, u_g, q) = wx.chunk(3, -1), uh.chunk(3, -1)
        n = mod_relu(n + (r + u_r).sigmoid() * q, self.threshold)
        return torch.lerp(n, last_h, (g + u_g).sigmoid()), last_c


def mod_relu(x: Tensor, threshold: Tensor) -> Tensor:
    """Return sign(x) max(0, |x| + 0.001 + threshold)."""
    return x.sign() * functional.relu(x.abs() + MOD_RELU_EPSILON + threshold.to(x.dtype))


class Rotations(nn.Module):
    """An orthogonal matrix, parametrized as L layers of plane rotations (EUNN, Jing et al. 2017,
    arXiv 1612.05231). Each layer rotates disjoint pairs of coordinates.

    With `capacity` 0, the FFT style, layer k pairs i with i XOR H / 2^(k+1), so log2 H layers
    connect every coordinate with every other one; H must be a power of two. Otherwise L is
    `capacity`, and layers pair (0, 1), (2, 3), ... and (1, 2), (3, 4), ... alternately.
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
        # [L * H/2]: a vector, so not subject to weight decay, which would pull Q to the identity
        self.angles = nn.Parameter(torch.empty(len(partner) * (units // 2)))
        nn.init.uniform_(self.angles, -3.14, 3.14)
        is_first = i < partner  # [L, H] of a pair
        first = torch.minimum(i, partner)
        angle_of = (is_first.cumsum(-1) - 1).gather(1, first).clamp(min=0)
        sign = torch.where(is_first, -1.0, 1.0) * (partner != i)  # 0 without a partner
        self.register_buffer("partner", partner, persistent=False)
        self.register_buffer("angle_of", angle_of, persistent=False)
        self.register_buffer("sign", sign, persistent=False)

    def forward(self) -> Tensor:
        """Return the matrix Q [H, H]."""
        angles = self.angles.view(len(self.partner), -1).gather(1, self.angle_of)  # [L, H]
        cosine = torch.where(self.sign == 0, 1.0, angles.cos())
        sine = angles.sin() * self.sign
        q = torch.eye(angles.shape[1], dtype=angles.dtype, device=angles.device)
        for c, s, partner in zip(cosine, sine, self.partner, strict=True):
            q = c[:, None] * q + s[:, None] * q[partner]
        return q
