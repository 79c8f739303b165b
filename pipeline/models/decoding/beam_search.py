"""Beam search for the likeliest texts, given what says how likely each next token is.

Legend: B rows still searched, K hypotheses a row, N = K * B of them (the first of all rows, the
second of all rows, ...), V vocabulary, C candidates to follow one hypothesis, S source steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pipeline.models.decoding.decoder import Memory, select
from pipeline.models.layers.recurrent import LayerState


class Step(Protocol):
    """What is known of the next token."""

    def __call__(
        self, tokens: Tensor, state: Sequence[LayerState], memory: Memory
    ) -> tuple[Tensor, list[LayerState], Tensor]:
        """The last token of each hypothesis [N], what it carries, and the memory of the B rows ->
        log-probabilities [N, V], what it carries now, attention's weights [N, S]."""


@dataclass(frozen=True)
class Hypothesis:
    tokens: list[int]
    """Without those that begin and end it."""
    score: float
    """Its log-probability over its penalty."""
    weights: Tensor
    """[n, S], what each of the tokens attended to."""


class Trace(NamedTuple):
    """Where the hypotheses of one length came from."""

    columns: dict[int, int]
    """By the row of the batch, where it stands in these."""
    parents: list[list[int]]
    """[B, K], which of the row's hypotheses each prolongs."""
    tokens: list[list[int]]
    """[B, K], by what."""
    weights: Tensor
    """[K, B, S], of the parents."""


@torch.no_grad()
def beam_search(
    step: Step,
    memory: Memory,
    limits: Tensor,
    *,
    begin: int,
    end: int,
    never: Sequence[int] = (),
    beam_size: int = 4,
    n_best: int = 1,
    alpha: float = 0.6,
) -> list[list[Hypothesis]]:
    """For each row of `memory` the hypotheses, at most `n_best`, that score most, the best first.

    A score is log P / ((5 + n) / 6)^alpha (Wu et al. 2016), where n counts the tokens, `end`
    included. Each step takes the `beam_size` likeliest ways to prolong a row's hypotheses by a token.
    Those that end are set aside, the others go on: one beam is greedy. A hypothesis whose length
    reaches its row's limit (limits [B], 1 or more, of n) has to end there; tokens in `never`,
    <pad> and `begin` for instance, are passed over.

    A row is done when none of its hypotheses can get among the `n_best` that have ended. No token
    makes a hypothesis likelier, and the penalty grows with n (alpha is 0 or more), so whatever it
    becomes scores at most log P / penalty(limit): a bound that costs no hypothesis. What is done
    is dropped, and the others' results do not hang on it.
    """
    lengths, bounds = memory.lengths.tolist(), limits.tolist()
    rows = list(range(len(lengths)))
    ended: list[list[tuple[float, int, int]]] = [[] for _ in rows]  # (-score, n, number)
    traces: list[Trace] = []
    forbidden = torch.tensor(never, dtype=torch.int64, device=limits.device)
    tokens = torch.full_like(limits, begin, dtype=torch.int64)  # [N]
    totals = torch.zeros(1, len(rows), dtype=torch.float64, device=limits.device)  # [K, B]
    state: Sequence[LayerState] = memory.initial
    while rows:
        n = len(traces) + 1
        following, state, weights = step(tokens, state, memory)
        following = following.unflatten(0, totals.shape)  # [K, B, V]
        values, ids = following.topk(min(beam_size + len(never), following.shape[2]))  # [K, B, C]
        values = values.masked_fill(torch.isin(ids, forbidden), float("-inf"))
        last = limits <= n  # [B]
        values[:, last] = float("-inf")
        values[:, last, 0], ids[:, last, 0] = following[:, last, end], end
        sums = (totals[..., None] + values).transpose(0, 1).flatten(1)  # [B, K * C]
        sums, picked = sums.topk(min(beam_size, sums.shape[1]))  # [B, K]
        parents = picked // values.shape[2]
        chosen = ids.transpose(0, 1).flatten(1).gather(1, picked)  # [B, K]
        over = (chosen == end) & sums.isfinite()
        alive = sums.masked_fill(over, float("-inf"))
        columns = {row: column for column, row in enumerate(rows)}
        attended = weights.unflatten(0, totals.shape)
        traces.append(Trace(columns, parents.tolist(), chosen.tolist(), attended))
        for column, number in over.nonzero().tolist():
            score = sums[column, number].item() / penalty(n, alpha)
            ended[rows[column]].append((-score, n, number))
        going = []
        for column, (row, most) in enumerate(zip(rows, alive.amax(1).tolist(), strict=True)):
            ended[row] = sorted(ended[row])[:n_best]
            bound = most / penalty(bounds[row], alpha)
            if bound > (-ended[row][-1][0] if len(ended[row]) == n_best else float("-inf")):
                going.append(column)
        keep = torch.tensor(going, dtype=torch.int64, device=limits.device)
        state = select(state, (parents[keep] * len(rows) + keep[:, None]).t().flatten())
        if len(going) < len(rows):
            memory, limits = memory.select(keep), limits[keep]
        tokens, totals = chosen[keep].t().flatten(), alive[keep].t()
        rows = [rows[column] for column in going]
    return [
        [_traced(traces, row, lengths[row], *found) for found in ended[row]]
        for row in range(len(ended))
    ]


def penalty(n: int, alpha: float) -> float:
    """By what the log-probability of n tokens is divided."""
    return ((5 + n) / 6) ** alpha


def _traced(
    traces: Sequence[Trace], row: int, length: int, score: float, n: int, number: int
) -> Hypothesis:
    """The hypothesis of n tokens that is the row's `number`th of those, from its end on."""
    tokens, weights = [], []
    for trace in reversed(traces[:n]):
        column = trace.columns[row]
        tokens.append(trace.tokens[column][number])
        number = trace.parents[column][number]
        weights.append(trace.weights[number, column, :length])
    return Hypothesis(tokens[:0:-1], -score, torch.stack(weights[::-1])[:-1])
