"""Attention of a decoder's states over an encoder's: all target steps over all source states at
once, as no state of the decoder that asks hangs on what it is told (no input feeding).

Legend: T' target steps, S source steps of the longest row, B rows, Q features of a query, M of a
source state, A of a key.
"""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pipeline.models.layers.pooling import valid


class Attention(nn.Module, ABC):
    """A mean of the source states for each query, weighted by the softmax of scores."""

    def __init__(self, size: int, memory: int) -> None:
        super().__init__()
        self.key = nn.Linear(memory, size)
        nn.init.xavier_uniform_(self.key.weight)
        nn.init.zeros_(self.key.bias)

    def keys(self, memory: Tensor) -> Tensor:
        """The part that is the same for all queries: [S, B, M] -> [S, B, A]."""
        return self.key(memory)

    @abstractmethod
    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        """[T', B, Q], [S, B, A] -> [B, T', S], each row of them up to a constant."""

    def forward(
        self, queries: Tensor, memory: Tensor, keys: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """queries [T', B, Q], memory [S, B, M], its keys [S, B, A], lengths [B] in 1..S -> contexts
        [T', B, M] and weights [T', B, S] in at least float32, 0 past a row's length."""
        scores = self.scores(queries, keys)  # [B, T', S]
        padding = ~valid(lengths, len(memory)).t()[:, None]  # [B, 1, S]
        wide = torch.promote_types(scores.dtype, torch.float32)
        weights = scores.to(wide).masked_fill(padding, float("-inf")).softmax(-1)
        contexts = torch.bmm(weights.to(memory.dtype), memory.transpose(0, 1))  # [B, T', M]
        return contexts.transpose(0, 1), weights.transpose(0, 1)


class Additive(Attention):
    """score(q, m) = v' tanh(W q + U m + b) (Bahdanau et al. 2015); a key is U m + b."""

    def __init__(self, queries: int, memory: int, size: int) -> None:
        super().__init__(size, memory)
        self.query = nn.Linear(queries, size, bias=False)
        nn.init.xavier_uniform_(self.query.weight)
        self.score = nn.Parameter(torch.empty(size))  # [A] v
        nn.init.uniform_(self.score, -(size**-0.5), size**-0.5)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        queries = self.query(queries)
        wide = torch.promote_types(queries.dtype, torch.float32)
        with torch.autocast(queries.device.type, enabled=False):
            scores = _Additive.apply(queries.to(wide), keys.to(wide), self.score.to(wide))
        return scores.permute(2, 0, 1)


class Dot(Attention):
    """score(q, m) = q' (U m + b) (Luong et al. 2015, "general"); a key is U m + b, and the b a bias
    of the query. Not scaled by the root of Q: states lie within 1, most of them well within, and a
    score of Glorot's U is of the order of 1 as it is.
    """

    def __init__(self, queries: int, memory: int, size: int) -> None:
        super().__init__(queries, memory)

    def scores(self, queries: Tensor, keys: Tensor) -> Tensor:
        return torch.bmm(queries.transpose(0, 1), keys.to(queries.dtype).permute(1, 2, 0))


ATTENTIONS: dict[str, type[Additive] | type[Dot]] = {"additive": Additive, "dot": Dot}
"""By the name in a config; all take Q, M and the units that additive attention compares by."""


CHUNK = {"cpu": 1 << 18}
"""Elements that are worked on at once: on a CPU what its cache holds, elsewhere `1 << 26`."""


class _Additive(torch.autograd.Function):
    """v' tanh(q + k) less the sum of v, for all pairs of q and k: [T', B, A], [S, B, A], [A] ->
    [T', S, B].

    As tanh(q + k) = 1 - 2 / (1 + exp(2q) exp(2k)), no more than a product, a sum and a quotient is
    left for the T' S B A of them, a tenth of the time of their tanh. What is beyond 40 or -40
    counts as that, lest its exp be infinite: the same, while its partner is within 20. Of the pairs
    only a chunk is ever in memory; the backward pass makes them anew.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = ((2 * x).clamp(-80, 80).exp() for x in (q, k))
        scores = q.new_empty(len(q), len(k), q.shape[1])
        chunk = _chunk(q, k)
        for queries, into in zip(q.split(len(chunk)), scores.split(len(chunk)), strict=True):
            torch.matmul(_quotients(queries, k, chunk), v, out=into)
        ctx.save_for_backward(q, k, v)
        return scores.mul_(-2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = ctx.saved_tensors
        d_scores = d_scores.contiguous()
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        chunk = _chunk(q, k)
        parts = (x.split(len(chunk)) for x in (q, d_scores, dq))
        for queries, ds, into in zip(*parts, strict=True):
            r = _quotients(queries, k, chunk)
            dv.addmv_(r.flatten(0, 2).t(), ds.flatten(), alpha=-2)
            r.addcmul_(r, r, value=-1).mul_(ds[..., None])  # r (1 - r), a quarter of tanh's slope
            torch.sum(r, 1, out=into)
            dk += r.sum(0) if len(r) > 1 else r[0]
        return dq.mul_(4 * v), dk.mul_(4 * v), dv


def _chunk(q: Tensor, k: Tensor) -> Tensor:
    """Room for as many target steps as are worked on at once [t, S, B, A]."""
    steps = min(CHUNK.get(k.device.type, 1 << 26) // max(k.numel(), 1), len(q))
    return k.new_empty(max(steps, 1), *k.shape)


def _quotients(q: Tensor, k: Tensor, chunk: Tensor) -> Tensor:
    """1 / (1 + q k) of [t, B, A] and [S, B, A] -> [t, S, B, A], in the room of `chunk`."""
    return torch.mul(q[:, None], k, out=chunk[: len(q)]).add_(1).reciprocal_()
