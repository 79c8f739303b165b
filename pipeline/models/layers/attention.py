"""Attention of a decoder's states over an encoder's states.

All target steps attend to all source states at once: the decoder's states do not depend on the
contexts (no input feeding).

Shapes: T' target steps, S source steps of the longest row, B rows, Q features of a query, M
features of a source state, A features of a key.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.models.layers.pooling import valid


class Attention(nn.Module, ABC):
    """Mean of the source states for each query, weighted by the softmax of their scores."""

    def __init__(self, size: int, memory: int) -> None:
        """`size` is A, `memory` is M."""
        super().__init__()
        self.key = nn.Linear(memory, size)
        nn.init.xavier_uniform_(self.key.weight)
        nn.init.zeros_(self.key.bias)

    def keys(self, memory: Tensor) -> Tensor:
        """Compute the keys, which all queries share: [S, B, M] -> [S, B, A]."""
        return self.key(memory)

    @abstractmethod
    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Score all pairs: [T', B, Q], [S, B, A] -> [B, T', S], up to a constant per (b, t')."""

    def forward(
        self, queries: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attend to the source states.

        Takes queries [T', B, Q], memory [S, B, M], its keys [S, B, A] and lengths [B] in 1..S.
        Returns contexts [T', B, M] and weights [T', B, S], which are in at least float32 and 0 past
        a row's length.
        """
        scores = self.scores(queries, keys)  # [B, T', S]
        padding = ~valid(lengths, len(memory)).t()[:, None]  # [B, 1, S]
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.to(wide).masked_fill(padding, float("-inf")).softmax(-1)
        contexts = torch.bmm(weights.to(memory.dtype), memory.transpose(0, 1))  # [B, T', M]
        return contexts.transpose(0, 1), weights.transpose(0, 1)


class AdditiveAttention(Attention):
    """score(q, m) = v' tanh(W q + U m + b), where U m + b is the key (Bahdanau et al. 2015)."""

    def __init__(self, queries: int, memory: int, size: int) -> None:
        """`queries` is Q, `memory` is M, `size` is A."""
        super().__init__(size, memory)
        self.query = nn.Linear(queries, size, bias=False)
        nn.init.xavier_uniform_(self.query.weight)
        self.score = nn.Parameter(torch.empty(size))  # [A] v
        nn.init.uniform_(self.score, -(size**-0.5), size**-0.5)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        queries = self.query(queries)
        wide = torch.promote_types(queries.dtype, torch.float32)
        with torch.autocast(queries.device.type, enabled=False):
            scores = _AdditiveScores.apply(queries.to(wide), keys.to(wide), self.score.to(wide))
        return scores.permute(2, 0, 1)


class DotAttention(Attention):
    """score(q, m) = q' (U m + b), where U m + b is the key (Luong et al. 2015, "general").

    b acts as a bias of the query. Scores are not divided by the square root of Q: states are
    within [-1, 1], most of them well within, so with Glorot initialization of U scores are of the
    order of 1 already.
    """

    def __init__(self, queries: int, memory: int, size: int) -> None:
        """`queries` is Q and A, `memory` is M; `size` is ignored."""
        super().__init__(queries, memory)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(queries.transpose(0, 1), keys.to(queries.dtype).permute(1, 2, 0))


ATTENTIONS: dict[str, type[AdditiveAttention] | type[DotAttention]] = {
    "additive": AdditiveAttention,
    "dot": DotAttention,
}
"""Attentions by their name in a config. All take Q, M and the size A of additive attention."""


CHUNK_ELEMENTS = {"cpu": 1 << 18}
"""Elements that additive attention computes at a time, by device type: on a CPU what fits into its
cache, on other devices `1 << 26`."""


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
