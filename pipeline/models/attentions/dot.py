"""Dot-product attention.

Shapes: T' target steps, S source steps of the longest row, B rows, Q features of a query, A = Q
features of a key.
"""

import torch
from torch import Tensor

from pipeline.models.attention import Attention
from pipeline.models.settings import ModelSettings


class DotAttention(Attention):
    """score(q, m) = q' (U m + b), where U m + b is the key (Luong et al. 2015, "general").

    b acts as a bias of the query. Scores are not divided by the square root of Q: states are
    within [-1, 1], most of them well within, so with Glorot initialization of U scores are of the
    order of 1 already.
    """

    def key_size(self, queries: int, settings: ModelSettings) -> int:
        return queries

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(queries.transpose(0, 1), keys.to(queries.dtype).permute(1, 2, 0))
