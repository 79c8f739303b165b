"""Additive attention.

Shapes: T' target steps, S source steps of the longest row, B rows, Q features of a query, M
features of a source state, A features of a key.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.models.attention import Attention
from pipeline.models.layers.masks import wide_dtype
from pipeline.models.settings import ModelSettings
from pipeline.settings import setting

CHUNK_ELEMENTS = {"cpu": 1 << 18}
"""Elements that additive attention computes at a time, by device type: on a CPU what fits into its
cache, on other devices `1 << 26`."""


class AdditiveAttention(Attention):
    """score(q, m) = v' tanh(W q + U m + b), where U m + b is the key (Bahdanau et al. 2015)."""

    class Settings(ModelSettings):
        attention_size: int = setting(0, "units of additive attention; 0: same as hidden", ge=0)

    def __init__(self, queries: int, memory: int, settings: Settings) -> None:
        super().__init__(queries, memory, settings)
        size = self.key_size(queries, settings)
        self.query = nn.Linear(queries, size, bias=False)
        nn.init.xavier_uniform_(self.query.weight)
        self.score = nn.Parameter(torch.empty(size))  # [A] v
        nn.init.uniform_(self.score, -(size**-0.5), size**-0.5)

    def key_size(self, queries: int, settings: Any) -> int:
        return int(settings.attention_size or settings.hidden)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        queries = self.query(queries)
        wide = wide_dtype(queries)
        with torch.autocast(queries.device.type, enabled=False):
            scores = _AdditiveScores.apply(queries.to(wide), keys.to(wide), self.score.to(wide))
        return scores.permute(2, 0, 1)


class _AdditiveScores(torch.autograd.Function):
    """v' tanh(q + k) minus the sum of v, for all pairs of q and k: [T', B, A], [S, B, A], [A] ->
    [T', S, B].

    tanh(q + k) = 1 - 2 / (1 + exp(2q) exp(2k)), so each of the T' S B A elements takes only one
    product, one sum and one quotient, a tenth of the time of tanh. q and k are clamped to [-40, 40]
    to keep exp finite, which does not change the result while the other of the two is within 20.
    Only one chunk of the pairs is in memory at a time; the backward pass computes them again.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = ((2 * x).clamp(-80, 80).exp() for x in (q, k))
        scores = q.new_empty(len(q), len(k), q.shape[1])
        buffer = _chunk_buffer(q, k)
        chunks = zip(q.split(len(buffer)), scores.split(len(buffer)), strict=True)
        for q_chunk, scores_chunk in chunks:
            torch.matmul(_quotients(q_chunk, k, buffer), v, out=scores_chunk)
        ctx.save_for_backward(q, k, v)
        return scores.mul_(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        d_scores = d_scores.contiguous()
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        buffer = _chunk_buffer(q, k)
        chunks = (x.split(len(buffer)) for x in (q, d_scores, dq))
        for q_chunk, d_scores_chunk, dq_chunk in zip(*chunks, strict=True):
            r = _quotients(q_chunk, k, buffer)
            dv.addmv_(r.flatten(0, 2).t(), d_scores_chunk.flatten(), alpha=-2)
            # r (1 - r) is a quarter of the slope of tanh.
            r.addcmul_(r, r, value=-1).mul_(d_scores_chunk[..., None])
            torch.sum(r, 1, out=dq_chunk)
            dk += r.sum(0) if len(r) > 1 else r[0]
        return dq.mul_(4 * v), dk.mul_(4 * v), dv


def _chunk_buffer(q: Tensor, k: Tensor) -> Tensor:
    """Allocate [t, S, B, A] for the t target steps that are computed at a time."""
    steps = min(CHUNK_ELEMENTS.get(k.device.type, 1 << 26) // max(k.numel(), 1), len(q))
    return k.new_empty(max(steps, 1), *k.shape)


def _quotients(q: Tensor, k: Tensor, buffer: Tensor) -> Tensor:
    """Compute 1 / (1 + q k) in the buffer: [t, B, A], [S, B, A] -> [t, S, B, A]."""
    return torch.mul(q[:, None], k, out=buffer[: len(q)]).add_(1).reciprocal_()
