"""Beam search, against all that it could have found and against the plainest one."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.models.decoding.beam_search import Hypothesis, beam_search, penalty
from pipeline.models.decoding.decoder import Memory
from pipeline.models.layers.recurrent import LayerState
from pipeline.models.settings import ModelSettings
from pipeline.models.translator import Translator

BEGIN, END, V = 2, 3, 4
ALL = 3**4 * V
"""Beams that hold every hypothesis of at most 5 tokens, </s> included."""


def number(past: Any, token: Any) -> Any:
    """What a token makes of the number that those before it have made: 17 n and something less than
    17, so that no two hypotheses are equally likely because they pass the same entries."""
    return (past // 17 + 1) * 17 + (past * 5 + token) % 17


class Toy:
    """A table of log-probabilities a row, by the last token and the number of all."""

    def __init__(self, seed: int, rows: int, sharpness: float = 1.0) -> None:
        draw = torch.Generator().manual_seed(seed)
        table = torch.randn(rows, 17 * 17, V, V, generator=draw, dtype=torch.float64) * sharpness
        self.tables = table.log_softmax(-1)
        self.steps, self.hypotheses = 0, 0

    def memory(self, rows: Sequence[int]) -> Memory:
        """What is carried is the row and the number."""
        which = torch.tensor(rows).view(1, -1, 1)
        lengths = torch.tensor(rows) % 3 + 1
        return Memory(which, which, lengths, [LayerState(which, torch.zeros_like(which))])

    def __call__(
        self, tokens: Tensor, state: Sequence[LayerState], memory: Memory
    ) -> tuple[Tensor, list[LayerState], Tensor]:
        self.steps, self.hypotheses = self.steps + 1, self.hypotheses + len(tokens)
        which, past = (x[0, :, 0] for x in state[0])
        assert torch.equal(which, memory.states[0, :, 0].repeat(len(tokens) // len(memory.lengths)))
        past = number(past, tokens)
        weights = past[:, None] * 3 ** torch.arange(3)  # that tell the number
        after = [LayerState(which.view(1, -1, 1), past.view(1, -1, 1))]
        return self.tables[which, past, tokens], after, weights.double()

    def exhaustive(self, row: int, limit: int, alpha: float) -> list[tuple[float, list[int]]]:
        """The scores of all hypotheses, the best first."""
        found = []
        for n in range(limit):
            for tokens in product([t for t in range(V) if t != END], repeat=n):
                past, total, last = 0, 0.0, BEGIN
                for token in (*tokens, END):
                    past = number(past, last)
                    total += self.tables[row, past, last, token].item()
                    last = token
                found.append((total / penalty(n + 1, alpha), list(tokens)))
        return sorted(found, reverse=True)


def plain(
    toy: Toy, row: int, limit: int, beams: int, best: int, alpha: float, never: Sequence[int] = ()
) -> tuple[list[tuple[float, list[int]]], int]:
    """The same search without a bound: it goes on up to the limit. Also the step after which no
    hypothesis can get among the best any more."""
    alive, ended, needed = [(0.0, [BEGIN], 0)], [], limit
    for n in range(1, limit + 1):
        longer = []
        for total, tokens, past in alive:
            now = number(past, tokens[-1])
            for token in {*range(V)} - {*never} if n < limit else {END}:
                log_p = toy.tables[row, now, tokens[-1], token].item()
                longer.append((total + log_p, [*tokens, token], now))
        longer = sorted(longer, reverse=True)[:beams]
        ended += [(x / penalty(n, alpha), t[1:-1]) for x, t, _ in longer if t[-1] == END]
        ended = sorted(ended, reverse=True)[:best]
        alive = [entry for entry in longer if entry[1][-1] != END]
        hope = max((total for total, *_ in alive), default=float("-inf")) / penalty(limit, alpha)
        if not alive or (len(ended) == best and hope <= ended[-1][0]):
            needed = min(needed, n)
    return ended, needed


def agree(got: Sequence[Hypothesis], expected: Sequence[tuple[float, list[int]]]) -> None:
    assert [h.tokens for h in got] == [tokens for _, tokens in expected]
    for h, (score, _) in zip(got, expected, strict=True):
        assert h.score == pytest.approx(score, abs=1e-12)


seeds = st.integers(0, 2**32)
alphas = st.sampled_from([0.0, 0.6, 1.0, 2.5])
limits_of = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(seeds, limits_of, alphas, st.integers(1, 5), st.sampled_from([0.3, 1.0, 4.0]))
def test_wide_beams_find_the_best_of_all(
    seed: int, limits: list[int], alpha: float, best: int, sharpness: float
) -> None:
    toy, rows = Toy(seed, len(limits), sharpness), range(len(limits))
    found = beam_search(
        toy, toy.memory(rows), torch.tensor(limits),
        begin=BEGIN, end=END, beam_size=ALL, n_best=best, alpha=alpha,
    )  # fmt: skip
    for row, limit in enumerate(limits):
        agree(found[row], toy.exhaustive(row, limit, alpha)[:best])


@given(
    seeds,
    limits_of,
    alphas,
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([(), (0, BEGIN)]),
)
def test_the_bound_costs_no_hypothesis(
    seed: int, limits: list[int], alpha: float, beams: int, best: int, never: Sequence[int]
) -> None:
    """Narrow beams find in each row what they find in it by itself without a bound, and take no
    step more than the slowest row needs."""
    limits = [3 * limit for limit in limits]
    toy, rows = Toy(seed, len(limits)), range(len(limits))
    found = beam_search(
        toy, toy.memory(rows), torch.tensor(limits),
        begin=BEGIN, end=END, never=never, beam_size=beams, n_best=best, alpha=alpha,
    )  # fmt: skip
    slowest = 0
    for row, limit in enumerate(limits):
        expected, needed = plain(toy, row, limit, beams, best, alpha, never)
        agree(found[row], expected)
        assert all(len(h.tokens) < limit for h in found[row])
        slowest = max(slowest, needed)
    assert toy.steps == slowest


@given(seeds, st.integers(1, 12), alphas)
def test_one_beam_is_greedy(seed: int, limit: int, alpha: float) -> None:
    toy = Toy(seed, 1)
    ((found,),) = beam_search(
        toy, toy.memory([0]), torch.tensor([limit]), begin=BEGIN, end=END, beam_size=1, alpha=alpha
    )
    past, total, tokens = 0, 0.0, [BEGIN]
    while tokens[-1] != END:
        past = number(past, tokens[-1])
        log_p = toy.tables[0, past, tokens[-1]]
        token = int(log_p.argmax()) if len(tokens) < limit else END
        total += log_p[token].item()
        tokens.append(token)
    agree([found], [(total / penalty(len(tokens) - 1, alpha), tokens[1:-1])])


@given(seeds, limits_of, st.integers(1, 6))
def test_weights_are_those_of_the_steps_that_chose_the_tokens(
    seed: int, limits: list[int], beams: int
) -> None:
    toy, rows = Toy(seed, len(limits)), range(len(limits))
    found = beam_search(
        toy, toy.memory(rows), torch.tensor(limits), begin=BEGIN, end=END, beam_size=beams, n_best=3
    )
    for row, hypotheses in enumerate(found):
        for h in hypotheses:
            past, made = 0, []
            for token in [BEGIN, *h.tokens][:-1]:
                past = number(past, token)
                made.append(past)
            assert h.weights.shape == (len(h.tokens), row % 3 + 1)
            assert h.weights[:, 0].tolist() == made


def test_tokens_never_wanted_are_passed_over() -> None:
    toy, rows = Toy(5, 8), range(8)
    limits = torch.full((8,), 4)
    found = beam_search(
        toy,
        toy.memory(rows),
        limits,
        begin=BEGIN,
        end=END,
        never=[0, BEGIN],
        beam_size=ALL,
        n_best=9,
    )
    for row in rows:
        others = [e for e in toy.exhaustive(row, 4, 0.6) if not {0, BEGIN} & {*e[1]}]
        agree(found[row], others)


def test_what_is_done_is_dropped_and_no_row_waits() -> None:
    """One that ends at once, one whose limit is 12: the first costs one step."""
    toy = Toy(0, 2)
    toy.tables[0, ..., END], toy.tables[1, ..., END] = 10.0, -20.0
    toy.tables = toy.tables.log_softmax(-1)
    found = beam_search(
        toy, toy.memory([0, 1]), torch.tensor([12, 12]), begin=BEGIN, end=END, beam_size=1
    )
    assert [len(h.tokens) for (h,) in found] == [0, 11]
    assert (toy.steps, toy.hypotheses) == (12, 13)


@pytest.mark.parametrize("attention", ["additive", "dot"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_translation_does_not_depend_on_the_batch(cell: str, attention: str) -> None:
    torch.manual_seed(0)
    settings = ModelSettings(cell=cell, attention=attention, embedding=6, hidden=8)
    model = Translator(settings, 13, 11).double().eval()
    torch.nn.init.normal_(model.decoder.project.weight, std=3)
    lengths = torch.tensor([7, 1, 4, 4, 2])
    source, keys = torch.randint(4, 13, (5, 9)), torch.arange(5)

    def translated(rows: list[int], steps: int) -> list[list[Hypothesis]]:
        memory = model.encode(source[rows, :steps], lengths[rows], keys[rows])
        return beam_search(
            model.step, memory, 2 * lengths[rows] + 3,
            begin=BEGIN, end=END, never=[0, BEGIN], beam_size=4, n_best=3,
        )  # fmt: skip

    together = translated([0, 1, 2, 3, 4], 9)
    for row, n in enumerate(lengths.tolist()):
        (alone,) = translated([row], n)
        agree(alone, [(h.score, h.tokens) for h in together[row]])
        assert len(alone) == 3
        for a, b in zip(alone, together[row], strict=True):
            assert a.weights.shape == (len(a.tokens), n)
            assert torch.allclose(a.weights, b.weights, rtol=0, atol=1e-10)
            assert torch.allclose(a.weights.sum(-1), torch.ones(len(a.tokens)).double())
