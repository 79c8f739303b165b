"""Beam search over target texts, given a next-token scorer.

Shapes: B unfinished rows, K hypotheses per row (1 at first), N = K * B hypotheses, where hypothesis
k of row b has the index k * B + b, V vocabulary size, C candidate tokens per hypothesis, S source
steps.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from pipeline.models.decoding.decoder import Memory, select_rows
from pipeline.models.layers.recurrent import LayerState


class NextTokenScorer(Protocol):
    """Scores the next token of each hypothesis; `Decoder.step` is one."""

    def __call__(
        self, tokens: Tensor, state: Sequence[LayerState], memory: Memory
    ) -> tuple[Tensor, list[LayerState], Tensor]:
        """Return log-probabilities [N, V], the new recurrent state and attention weights [N, S].

        Takes the last token of each hypothesis [N], the hypotheses' recurrent state, and the
        encoded sources of the B rows.
        """


@dataclass(frozen=True)
class Hypothesis:
    """A finished text that beam search found."""

    tokens: list[int]
    """Without the begin and end tokens."""
    score: float
    """Log-probability, the end token included, divided by the length penalty."""
    weights: Tensor
    """[len(tokens), L], attention weights of each token over the row's L source steps."""


class SearchStep(NamedTuple):
    """Back pointers of the hypotheses at one step, to reconstruct them at the end."""

    slots: dict[int, int]
    """Maps a row of the batch to its slot: its index among the rows unfinished at this step."""
    parents: list[list[int]]
    """[B, K], index of the hypothesis that each one extends, within its row."""
    tokens: list[list[int]]
    """[B, K], token by which it is extended."""
    weights: Tensor
    """[P, B, S], attention weights of the P hypotheses per row that were extended (1 at first)."""


@torch.no_grad()
def beam_search(
    score_next: NextTokenScorer,
    memory: Memory,
    limits: Tensor,
    *,
    begin: int,
    end: int,
    suppress_tokens: Sequence[int] = (),
    beam_size: int = 4,
    n_best: int = 1,
    alpha: float = 0.6,
) -> list[list[Hypothesis]]:
    """Return up to `n_best` hypotheses of each row of `memory`, best first.

    The score is log P / ((5 + n) / 6)^alpha (Wu et al. 2016), where n counts the tokens, including
    `end`. Each step keeps the `beam_size` most likely one-token extensions of a row's hypotheses.
    Those that end are set aside, the others are extended further; `beam_size=1` is greedy search.
    `limits` [B], at least 1, bounds n: a hypothesis that reaches its row's limit must end there.
    `suppress_tokens`, for example <pad> and `begin`, are never generated.

    A row is finished when no unfinished hypothesis can still enter its `n_best`. Extending a
    hypothesis cannot raise log P, which is at most 0, and the penalty is largest at the limit
    (alpha is 0 or more), so log P / penalty(limit) bounds the score of every extension. Stopping at
    this bound loses no hypothesis. Finished rows are dropped from the batch; the results of the
    others do not depend on them.
    """
    source_lengths, row_limits = memory.lengths.tolist(), limits.tolist()
    rows = list(range(len(source_lengths)))
    # (-score, n, index in its row at step n)
    finished: list[list[tuple[float, int, int]]] = [[] for _ in rows]
    steps: list[SearchStep] = []
    suppressed = torch.tensor(suppress_tokens, dtype=torch.int64, device=limits.device)
    tokens = torch.full_like(limits, begin, dtype=torch.int64)  # [N]
    totals = torch.zeros(1, len(rows), dtype=torch.float64, device=limits.device)  # [K, B]
    state: Sequence[LayerState] = memory.initial_state
    while rows:
        n = len(steps) + 1
        log_probs, state, weights = score_next(tokens, state, memory)
        log_probs = log_probs.unflatten(0, totals.shape)  # [K, B, V]
        # Enough of them remain if all suppressed tokens are among the best.
        candidates = min(beam_size + len(suppress_tokens), log_probs.shape[2])
        values, ids = log_probs.topk(candidates)  # [K, B, C]
        values = values.masked_fill(torch.isin(ids, suppressed), float("-inf"))
        at_limit = (limits <= n)[:, None]  # [B, 1]: these hypotheses may only end
        only_end = torch.full_like(values, float("-inf"))
        only_end[..., 0] = log_probs[..., end]
        values, ids = torch.where(at_limit, only_end, values), torch.where(at_limit, end, ids)
        sums = (totals[..., None] + values).transpose(0, 1).flatten(1)  # [B, K * C]
        sums, picked = sums.topk(min(beam_size, sums.shape[1]))  # [B, K]
        parents = picked // candidates
        next_tokens = ids.transpose(0, 1).flatten(1).gather(1, picked)  # [B, K]
        ends = (next_tokens == end) & sums.isfinite()
        open_sums = sums.masked_fill(ends, float("-inf"))  # ended ones keep their index
        slots = {row: slot for slot, row in enumerate(rows)}
        # The only transfer of a step, because each waits for a GPU. float64 holds the integers.
        step_values = torch.stack([parents.double(), next_tokens.double(), sums]).tolist()
        step_parents, step_tokens = ([list(map(int, row)) for row in x] for x in step_values[:2])
        steps.append(
            SearchStep(slots, step_parents, step_tokens, weights.unflatten(0, totals.shape))
        )
        unfinished = []
        for slot, (row, row_sums) in enumerate(zip(rows, step_values[2], strict=True)):
            best_open_sum = float("-inf")
            for index, (token, total) in enumerate(zip(step_tokens[slot], row_sums, strict=True)):
                if token == end and math.isfinite(total):
                    finished[row].append((-total / length_penalty(n, alpha), n, index))
                else:
                    best_open_sum = max(best_open_sum, total)
            best = finished[row] = sorted(finished[row])[:n_best]
            bound = best_open_sum / length_penalty(row_limits[row], alpha)
            worst_kept = -best[-1][0] if len(best) == n_best else float("-inf")
            if bound > worst_kept:
                unfinished.append(slot)
        keep = torch.arange(len(rows), device=limits.device)
        if len(unfinished) < len(rows):
            keep = keep.new_tensor(unfinished)
            memory, limits = memory.select(keep), limits[keep]
        state = select_rows(state, (parents[keep] * len(rows) + keep[:, None]).t().flatten())
        tokens, totals = next_tokens[keep].t().flatten(), open_sums[keep].t()
        rows = [rows[slot] for slot in unfinished]
    return [
        [_backtrack(steps, row, source_lengths[row], *entry) for entry in finished[row]]
        for row in range(len(finished))
    ]


def length_penalty(n: int, alpha: float) -> float:
    """Return the divisor of the log-probability of a hypothesis of n tokens."""
    return ((5 + n) / 6) ** alpha


def _backtrack(
    steps: Sequence[SearchStep],
    row: int,
    source_length: int,
    negative_score: float,
    n: int,
    index: int,
) -> Hypothesis:
    """Reconstruct the hypothesis of n tokens that has the given index in its row at step n."""
    tokens, weights = [], []
    for step in reversed(steps[:n]):
        slot = step.slots[row]
        tokens.append(step.tokens[slot][index])
        index = step.parents[slot][index]
        weights.append(step.weights[index, slot, :source_length])
    # Tokens and weights were collected from the end token on, which is left out.
    return Hypothesis(tokens[:0:-1], -negative_score, torch.stack(weights[::-1])[:-1])
