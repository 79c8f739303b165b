"""Beam search, compared with exhaustive search, a simple beam search and greedy search."""

from collections.abc import Sequence
from itertools import product
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pipeline.models.decoding.beam_search import Hypothesis, beam_search, length_penalty
from pipeline.models.decoding.decoder import Memory
from pipeline.models.layers.recurrent import LayerState
from pipeline.models.translator import Translator
from tests.helpers.settings import model_settings
from tests.helpers.syncs import SyncRecorder

BEGIN, END, V = 2, 3, 4
UNLIMITED_BEAM = 3**4 * V
"""Beam size that holds every hypothesis of at most 5 tokens, </s> included."""


def extend_history(history: Any, token: Any) -> Any:
    """Return the number that encodes a history of tokens after one more token.

    It is 17 n + r, for n < 17 tokens and a hash r < 17 of them. With n in it, the log-probability
    of a token depends on its position. Otherwise texts with the same tokens in another order might
    sum the same entries and tie.
    """
    return (history // 17 + 1) * 17 + (history * 5 + token) % 17


class ToyScorer:
    """Looks up log-probabilities in a random table per row, by history number and last token."""

    def __init__(self, seed: int, rows: int, sharpness: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        shape = (rows, 17 * 17, V, V)
        table = torch.randn(shape, generator=generator, dtype=torch.float64) * sharpness
        self.tables = table.log_softmax(-1)
        self.steps, self.hypotheses = 0, 0

    def memory(self, rows: Sequence[int]) -> Memory:
        """A memory whose recurrent state is the row index (h) and the history number (c)."""
        row_ids = torch.tensor(rows).view(1, -1, 1)
        lengths = torch.tensor(rows) % 3 + 1
        initial_state = [LayerState(row_ids, torch.zeros_like(row_ids))]
        return Memory(row_ids, row_ids, lengths, initial_state)

    def __call__(
        self, tokens: Tensor, state: Sequence[LayerState], memory: Memory
    ) -> tuple[Tensor, list[LayerState], Tensor]:
        self.steps, self.hypotheses = self.steps + 1, self.hypotheses + len(tokens)
        rows, history = (x[0, :, 0] for x in state[0])
        assert torch.equal(rows, memory.states[0, :, 0].repeat(len(tokens) // len(memory.lengths)))
        history = extend_history(history, tokens)
        # In place of attention weights [N, 3], as a row has up to 3 source states: column 0 is the
        # history number.
        weights = history[:, None] * 3 ** torch.arange(3)
        new_state = [LayerState(rows.view(1, -1, 1), history.view(1, -1, 1))]
        return self.tables[rows, history, tokens], new_state, weights.double()

    def exhaustive(self, row: int, limit: int, alpha: float) -> list[tuple[float, list[int]]]:
        """The scores of all hypotheses, best first."""
        scored = []
        for n in range(limit):
            for tokens in product([t for t in range(V) if t != END], repeat=n):
                history, total, last = 0, 0.0, BEGIN
                for token in (*tokens, END):
                    history = extend_history(history, last)
                    total += self.tables[row, history, last, token].item()
                    last = token
                scored.append((total / length_penalty(n + 1, alpha), list(tokens)))
        return sorted(scored, reverse=True)


def simple_beam_search(
    scorer: ToyScorer,
    row: int,
    limit: int,
    beam_size: int,
    n_best: int,
    alpha: float,
    suppress_tokens: Sequence[int] = (),
) -> tuple[list[tuple[float, list[int]]], int]:
    """Search one row up to its limit, without an early stop.

    Also returns the first step after which no hypothesis can enter the `n_best` any more.
    """
    open_, finished, steps_needed = [(0.0, [BEGIN], 0)], [], limit
    for n in range(1, limit + 1):
        extended = []
        for total, tokens, history in open_:
            new_history = extend_history(history, tokens[-1])
            for token in {*range(V)} - {*suppress_tokens} if n < limit else {END}:
                log_prob = scorer.tables[row, new_history, tokens[-1], token].item()
                extended.append((total + log_prob, [*tokens, token], new_history))
        extended = sorted(extended, reverse=True)[:beam_size]
        finished += [
            (total / length_penalty(n, alpha), tokens[1:-1])
            for total, tokens, _ in extended
            if tokens[-1] == END
        ]
        finished = sorted(finished, reverse=True)[:n_best]
        open_ = [entry for entry in extended if entry[1][-1] != END]
        best_total = max((total for total, *_ in open_), default=float("-inf"))
        bound = best_total / length_penalty(limit, alpha)
        if not open_ or (len(finished) == n_best and bound <= finished[-1][0]):
            steps_needed = min(steps_needed, n)
    return finished, steps_needed


def assert_hypotheses(
    actual: Sequence[Hypothesis], expected: Sequence[tuple[float, list[int]]]
) -> None:
    assert [h.tokens for h in actual] == [tokens for _, tokens in expected]
    for h, (score, _) in zip(actual, expected, strict=True):
        assert h.score == pytest.approx(score, abs=1e-12)


seeds = st.integers(0, 2**32)
alphas = st.sampled_from([0.0, 0.6, 1.0, 2.5])
limit_lists = st.lists(st.integers(1, 5), min_size=1, max_size=4)


@given(seeds, limit_lists, alphas, st.integers(1, 5), st.sampled_from([0.3, 1.0, 4.0]))
def test_unlimited_beam_matches_exhaustive_search(
    seed: int, limits: list[int], alpha: float, n_best: int, sharpness: float
) -> None:
    scorer, rows = ToyScorer(seed, len(limits), sharpness), range(len(limits))
    results = beam_search(
        scorer, scorer.memory(rows), torch.tensor(limits),
        begin=BEGIN, end=END, beam_size=UNLIMITED_BEAM, n_best=n_best, alpha=alpha,
    )  # fmt: skip
    for row, limit in enumerate(limits):
        assert_hypotheses(results[row], scorer.exhaustive(row, limit, alpha)[:n_best])


@given(
    seeds,
    limit_lists,
    alphas,
    st.integers(1, 6),
    st.integers(1, 5),
    st.sampled_from([(), (0, BEGIN)]),
)
def test_early_stop_loses_no_hypothesis_and_wastes_no_step(
    seed: int,
    limits: list[int],
    alpha: float,
    beam_size: int,
    n_best: int,
    suppress_tokens: Sequence[int],
) -> None:
    """Each row gives the result of a simple search of that row alone, and the number of steps is
    what the slowest row needs."""
    limits = [3 * limit for limit in limits]
    scorer, rows = ToyScorer(seed, len(limits)), range(len(limits))
    results = beam_search(
        scorer, scorer.memory(rows), torch.tensor(limits),
        begin=BEGIN, end=END, suppress_tokens=suppress_tokens,
        beam_size=beam_size, n_best=n_best, alpha=alpha,
    )  # fmt: skip
    slowest = 0
    for row, limit in enumerate(limits):
        expected, steps_needed = simple_beam_search(
            scorer, row, limit, beam_size, n_best, alpha, suppress_tokens
        )
        assert_hypotheses(results[row], expected)
        assert all(len(h.tokens) < limit for h in results[row])
        slowest = max(slowest, steps_needed)
    assert scorer.steps == slowest


@given(seeds, st.integers(1, 12), alphas)
def test_beam_size_one_is_greedy(seed: int, limit: int, alpha: float) -> None:
    scorer = ToyScorer(seed, 1)
    ((hypothesis,),) = beam_search(
        scorer, scorer.memory([0]), torch.tensor([limit]),
        begin=BEGIN, end=END, beam_size=1, alpha=alpha,
    )  # fmt: skip
    history, total, tokens = 0, 0.0, [BEGIN]
    while tokens[-1] != END:
        history = extend_history(history, tokens[-1])
        log_probs = scorer.tables[0, history, tokens[-1]]
        token = int(log_probs.argmax()) if len(tokens) < limit else END
        total += log_probs[token].item()
        tokens.append(token)
    score = total / length_penalty(len(tokens) - 1, alpha)
    assert_hypotheses([hypothesis], [(score, tokens[1:-1])])


@given(seeds, limit_lists, st.integers(1, 6))
def test_weights_belong_to_the_steps_that_chose_the_tokens(
    seed: int, limits: list[int], beam_size: int
) -> None:
    scorer, rows = ToyScorer(seed, len(limits)), range(len(limits))
    results = beam_search(
        scorer, scorer.memory(rows), torch.tensor(limits),
        begin=BEGIN, end=END, beam_size=beam_size, n_best=3,
    )  # fmt: skip
    for row, hypotheses in enumerate(results):
        for h in hypotheses:
            history, expected = 0, []
            for token in [BEGIN, *h.tokens][:-1]:
                history = extend_history(history, token)
                expected.append(history)
            assert h.weights.shape == (len(h.tokens), row % 3 + 1)
            assert h.weights[:, 0].tolist() == expected


def test_suppressed_tokens_are_never_generated() -> None:
    scorer, rows = ToyScorer(5, 8), range(8)
    results = beam_search(
        scorer, scorer.memory(rows), torch.full((8,), 4),
        begin=BEGIN, end=END, suppress_tokens=[0, BEGIN], beam_size=UNLIMITED_BEAM, n_best=9,
        alpha=0.6,
    )  # fmt: skip
    for row in rows:
        hypotheses = scorer.exhaustive(row, limit=4, alpha=0.6)
        assert_hypotheses(results[row], [h for h in hypotheses if not {0, BEGIN} & {*h[1]}])


def test_finished_rows_are_dropped_from_the_batch() -> None:
    """The first row ends at once and costs one step; the second runs to its limit of 12."""
    scorer = ToyScorer(0, 2)
    scorer.tables[0, ..., END], scorer.tables[1, ..., END] = 10.0, -20.0
    scorer.tables = scorer.tables.log_softmax(-1)
    results = beam_search(
        scorer, scorer.memory([0, 1]), torch.tensor([12, 12]), begin=BEGIN, end=END, beam_size=1
    )
    assert [len(h.tokens) for (h,) in results] == [0, 11]
    assert (scorer.steps, scorer.hypotheses) == (12, 13)


@pytest.mark.parametrize("attention", ["additive", "dot"])
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_translation_does_not_depend_on_the_batch(cell: str, attention: str) -> None:
    torch.manual_seed(0)
    settings = model_settings(cell=cell, attention=attention, embedding=6, hidden=8)
    model = Translator(settings, 13, 11).double().eval()
    assert model.decoder.project is not None
    torch.nn.init.normal_(model.decoder.project.weight, std=3)
    lengths = torch.tensor([7, 1, 4, 4, 2])
    source, keys = torch.randint(4, 13, (5, 9)), torch.arange(5)

    def translate(rows: list[int], source_width: int) -> list[list[Hypothesis]]:
        memory = model.encode(source[rows, :source_width], lengths[rows], keys[rows])
        return beam_search(
            model.step, memory, 2 * lengths[rows] + 3,
            begin=BEGIN, end=END, suppress_tokens=[0, BEGIN], beam_size=4, n_best=3,
        )  # fmt: skip

    batched = translate([0, 1, 2, 3, 4], 9)
    for row, n in enumerate(lengths.tolist()):
        (single,) = translate([row], n)
        assert_hypotheses(single, [(h.score, h.tokens) for h in batched[row]])
        assert len(single) == 3
        for a, b in zip(single, batched[row], strict=True):
            assert a.weights.shape == (len(a.tokens), n)
            assert torch.allclose(a.weights, b.weights, rtol=0, atol=1e-10)
            assert torch.allclose(a.weights.sum(-1), torch.ones(len(a.tokens)).double())


def test_a_step_waits_for_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = ToyScorer(0, rows=3)
    memory, limits = scorer.memory(range(3)), torch.full((3,), 6)
    with monkeypatch.context() as patch, SyncRecorder(patch) as recorder:
        beam_search(scorer, memory, limits, begin=BEGIN, end=END, beam_size=4)
    waits = [place for place in recorder.places if not place.startswith(("equal", "lift_fresh"))]
    at_start = 2  # lengths and limits
    assert scorer.steps > 2
    assert len(waits) == scorer.steps + at_start, waits
