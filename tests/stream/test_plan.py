"""Laws of the plan: every row once, equal work, and nothing that hangs on who asks."""

import hashlib
import itertools
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import TrainingError
from pipeline.stream import plan as plans
from pipeline.stream.plan import Plan, Position, Window, bin_edges, cut
from pipeline.stream.settings import StreamSettings

FINGERPRINT = "0123456789abcdef" * 4


def index(rows: int, block: int, longest: int = 60, seed: int = 0) -> Any:
    """An index of lengths alone."""
    lengths = np.random.default_rng(seed).integers(1, longest + 1, rows).astype(np.uint16)
    sizes = np.diff(np.append(np.arange(0, rows, block), rows))
    return SimpleNamespace(
        rows=rows,
        blocks=len(sizes),
        rows_per_block=block,
        block_rows=sizes,
        max_length=int(lengths.max()),
        all_lengths=lengths,
        lengths=lambda b: lengths[b * block : b * block + sizes[b]],
    )


def make(
    rows: int = 500, block: int = 16, seed: int = 0, shuffle: bool = True, **keys: Any
) -> Plan:
    defaults = {"lanes": 6, "window": 2, "token_budget": 600}
    stream = StreamSettings(**(defaults | keys))
    return Plan(index(rows, block), stream, seed, fingerprint=FINGERPRINT, shuffle=shuffle)


def windows(plan: Plan, epoch: int = 0) -> list[Window]:
    return [plan.window(epoch, number) for number in range(plan.windows)]


def batches(plan: Plan, epoch: int = 0) -> list[list[int]]:
    """The rows of each batch, in the order of training."""
    return [
        window.rows[c.start : c.stop].tolist()
        for window in windows(plan, epoch)
        for update in window.updates
        for c in update
    ]


shapes = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 400),
        "block": st.integers(1, 40),
        "seed": st.integers(0, 2**40),
        "shuffle": st.booleans(),
        "lanes": st.integers(1, 24),
        "window": st.integers(1, 4),
        "token_budget": st.integers(60, 2000),
        "bucketing": st.booleans(),
    }
)


@settings(max_examples=80, deadline=None)
@given(shapes, st.integers(0, 3), st.integers(1, 24))
def test_the_laws(shape: dict[str, Any], epoch: int, world: int) -> None:
    plan = make(**shape)
    found = batches(plan, epoch)
    assert sorted(row for rows in found for row in rows) == list(range(shape["rows"]))
    for window in windows(plan, epoch):
        assert np.array_equal(window.lengths, plan.index.all_lengths[window.rows])
        for update in window.updates:
            for c in update:
                assert c.padded_tokens <= shape["token_budget"]
                assert window.lengths[c.start : c.stop].max() <= c.length
                if world > shape["lanes"]:
                    continue
                parts = [window.of_rank(c, rank, world) for rank in range(world)]
                together = np.sort(np.concatenate(parts))
                assert np.array_equal(together, np.arange(c.start, c.stop))
                assert max(map(len, parts)) == window.rows_a_rank(c, world)
    assert batches(make(**shape), epoch) == found


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_worlds_that_divide_the_lanes_share_evenly(world: int) -> None:
    plan = make(rows=3000, block=64, lanes=12, window=4, token_budget=4000)
    computed = wanted = 0
    for window in windows(plan):
        for update in window.updates:
            for c in update:
                computed += window.rows_a_rank(c, world) * world
                wanted += c.stop - c.start
    assert computed / wanted < 1.08


def test_a_rank_reads_only_the_blocks_of_its_lanes() -> None:
    """In a full window a lane is whole blocks, so that ranks share none."""
    plan = make(rows=6 * 2 * 16 * 3, lanes=6, window=2)
    for window in windows(plan):
        seen = [
            set((window.rows[np.arange(len(window.rows)) % 6 % 3 == rank] // 16).tolist())
            for rank in range(3)
        ]
        assert [len(blocks) for blocks in seen] == [4, 4, 4]
        assert len(set.union(*seen)) == 12


def test_seeds_epochs_and_datasets_differ() -> None:
    first = batches(make())
    assert batches(make(), epoch=1) != first
    assert batches(make(seed=1)) != first
    other = Plan(make().index, make().settings, 0, fingerprint="f" * 64)
    assert batches(other) != first


def test_rows_meet_others_in_each_epoch() -> None:
    """Bucketing must not make the same batches again."""
    plan = make(rows=2000, block=64, window=8, token_budget=2000)
    first, second = ({frozenset(rows) for rows in batches(plan, epoch)} for epoch in (0, 1))
    assert not first & second


def test_bucketing_saves_padding() -> None:
    def share(**keys: Any) -> float:
        plan = make(rows=4000, block=64, window=8, token_budget=4000, **keys)
        padded = sum(c.padded_tokens for w in windows(plan) for update in w.updates for c in update)
        return float(plan.index.all_lengths.sum() / padded)

    assert share() > 0.85
    assert share(bucketing=False) < 0.6


def test_without_shuffling_the_order_is_the_same_in_each_epoch() -> None:
    plan = make(shuffle=False)
    assert batches(plan, 0) == batches(plan, 5)


def test_the_largest_batch_comes_first_in_the_run() -> None:
    window = make(rows=2000).window(0, 0)
    sizes = [c.padded_tokens for update in window.updates for c in update]
    assert sizes[0] == max(sizes)


def test_micro_batches_of_an_update_share_the_budget() -> None:
    plan = make(rows=2000, block=64, micro_batches=3, token_budget=1800, window=8)
    window = plan.window(0, 0)
    assert all(len(update) == 3 for update in window.updates[:-1])
    assert all(c.padded_tokens <= 600 for update in window.updates for c in update)
    assert any(len({c.length for c in update}) > 1 for update in window.updates)


@pytest.mark.parametrize("stop", [0, 1, 5, 11])
def test_from_a_position_on_the_rest_is_the_same(stop: int) -> None:
    plan = make(rows=700)
    whole = [(w.number, n) for w in windows(plan, 2) for n in range(len(w.updates))]
    number, update = whole[stop]
    rest = [
        (window.number, n)
        for window, first in plan.from_position(Position(2, number, update))
        for n in range(first, len(window.updates))
    ]
    assert rest == whole[stop:]


def test_a_world_past_the_lanes_is_refused_with_what_fits() -> None:
    make(lanes=6).check_world(6)
    with pytest.raises(TrainingError, match=r"world size 7: .*at most 6 ranks.*start 6"):
        make(lanes=6).check_world(7)


@given(st.integers(1, 70000))
def test_edges_reach_the_longest_row_and_pad_little(longest: int) -> None:
    edges = bin_edges(longest)
    assert edges[-1] == longest
    assert all(b - a <= max(1, 0.06 * a) for a, b in itertools.pairwise(edges))


def test_no_cut_is_left_with_a_handful_of_rows() -> None:
    sizes = [c.stop - c.start for c in cut(np.full(101, 10), 1000)]
    assert sizes == [51, 50]


def test_the_plan_stays_what_it_is() -> None:
    """Change `plan.VERSION` with this hash: a checkpoint holds a position in the plan."""
    text = repr([batches(make(rows=900, micro_batches=2), epoch) for epoch in range(3)])
    assert (plans.VERSION, hashlib.sha256(text.encode()).hexdigest()[:16]) == (
        1,
        "4bc528bd4dcac5a9",
    )
