"""Sampling of target texts, given a next-token scorer.

Shapes: B rows, V vocabulary size, S source steps.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.models.decoding.beam_search import Hypothesis, NextTokenScorer, length_penalty
from pipeline.models.decoding.decoder import Memory
from pipeline.models.dropout import keyed_uniform


@torch.no_grad()
def sample(
    score_next: NextTokenScorer,
    memory: Memory,
    limits: Tensor,
    *,
    begin: int,
    end: int,
    keys: Tensor,
    temperature: float,
    suppress_tokens: Sequence[int] = (),
    alpha: float = 0.6,
) -> list[Hypothesis]:
    """Sample a text for each row of `memory`, one token after another.

    `limits` [B] bounds the number of tokens, including `end`, as in `beam_search`; there are the
    other arguments and the score, too. The text of a row depends only on the row and on its key in
    `keys` [B]. Probabilities are sharpened by a `temperature` below 1.
    """
    suppressed = torch.tensor(suppress_tokens, dtype=torch.int64, device=limits.device)
    last = torch.full_like(limits, begin, dtype=torch.int64)  # [B]
    totals = torch.zeros(len(limits), dtype=torch.float64, device=limits.device)
    ended = torch.zeros_like(limits, dtype=torch.bool)
    state = memory.initial_state
    tokens: list[Tensor] = []
    attention: list[Tensor] = []
    for n in range(1, int(limits.max()) + 1):
        log_probs, state, weights = score_next(last, state, memory)  # [B, V], [B, S]
        allowed = log_probs.index_fill(1, suppressed, -math.inf)
        only_end = torch.full_like(allowed, -math.inf)
        only_end[:, end] = log_probs[:, end]
        allowed = torch.where((limits <= n)[:, None], only_end, allowed)
        last = (allowed + temperature * gumbel_noise(keys, n, allowed.shape[1])).argmax(-1)
        chosen = log_probs.gather(1, last[:, None])[:, 0]
        totals += chosen.double().masked_fill(ended, 0.0)
        tokens.append(last.masked_fill(ended, end))
        attention.append(weights)
        ended = ended | (last == end)
        if bool(ended.all()):
            break
    sampled, weights = torch.stack(tokens, 1).tolist(), torch.stack(attention, 1)
    hypotheses = []
    for row, (ids, total) in enumerate(zip(sampled, totals.tolist(), strict=True)):
        count = ids.index(end)
        score = total / length_penalty(count + 1, alpha)
        source = int(memory.lengths[row])
        hypotheses.append(Hypothesis(ids[:count], score, weights[row, :count, :source]))
    return hypotheses


def gumbel_noise(keys: Tensor, step: int, width: int) -> Tensor:
    """Return noise [B, width] for keys [B]: the largest of log-probabilities plus noise is a sample
    from them (Gumbel 1954)."""
    uniform = keyed_uniform(keys, step, width)
    return -(-uniform.clamp(1e-9, 1 - 1e-7).log()).log()
