"""Laws of the plan: every row once, equal work, and nothing that hangs on who asks."""

import hashlib
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import TrainingError
from pipeline.stream import plan as plans
from pipeline.stream.index import Block
from pipeline.stream.plan import Plan, PlanSource, Position, Window
from pipeline.stream.settings import StreamSettings

FINGERPRINT = "0123456789abcdef" * 4


def index(rows: int, block: int, longest: int = 60, seed: int = 0) -> Any:
    """An index of lengths alone."""
    lengths = np.random.default_rng(seed).integers(1, longest + 1, rows).astype(np.uint16)

    def read(numbers: Any) -> list[Block]:
        return [
            Block(b, b * block, 0, 0, 0, 0, lengths[b * block : (b + 1) * block])
            for b in numbers.tolist()
        ]

    return SimpleNamespace(
        rows=rows,
        blocks=-(-rows // block),
        rows_per_block=block,
        max_length=int(lengths.max()),
        all_lengths=lengths,
        read=read,
    )


def make(
    rows: int = 500, block: int = 16, seed: int = 0, shuffle: bool = True, **keys: Any
) -> Plan:
    sources = [PlanSource(index(rows, block), FINGERPRINT)]
    return Plan(sources, stream(**keys), seed, shuffle=shuffle)


def stream(**keys: Any) -> StreamSettings:
    return StreamSettings(**({"lanes": 6, "shuffle_window": 2, "token_budget": 600} | keys))


def windows(plan: Plan, epoch: int = 0) -> list[Window]:
    return [plan.window(epoch, number) for number in range(plan.windows(epoch))]


def batches(plan: Plan, epoch: int = 0) -> list[list[int]]:
    """The numbers of the rows of each batch, in the order of training."""
    return [
        plan.share(window).ids[c.start : c.stop].tolist()
        for window in windows(plan, epoch)
        for update in window.updates
        for c in update
    ]


def rows_of(plan: Plan, epoch: int) -> list[int]:
    return [row for rows in batches(plan, epoch) for row in rows]


shapes = st.fixed_dictionaries(
    {
        "rows": st.integers(1, 400),
        "block": st.integers(1, 40),
        "seed": st.integers(0, 2**40),
        "shuffle": st.booleans(),
        "lanes": st.integers(1, 24),
        "shuffle_window": st.integers(1, 4),
        "token_budget": st.integers(60, 2000),
        "bucketing": st.booleans(),
    }
)


@settings(max_examples=80, deadline=None)
@given(shapes, st.integers(0, 3), st.integers(1, 24))
def test_the_laws(shape: dict[str, Any], epoch: int, world: int) -> None:
    plan = make(**shape)
    rows = shape["rows"]
    first = rows * epoch
    assert sorted(rows_of(plan, epoch)) == list(range(first, first + rows))
    assert plan.rows_before(epoch) == first
    lengths = plan.sources[0].index.all_lengths
    for window in windows(plan, epoch):
        ids = plan.share(window).ids
        cuts = [c for update in window.updates for c in update]
        for c in cuts:
            assert lengths[ids[c.start : c.stop] % rows].max() <= c.length
            assert c.padded_tokens <= shape["token_budget"]
        if world <= shape["lanes"]:
            shares = [plan.share(window, rank, world).ids for rank in range(world)]
            for c in cuts:
                begin, end = window.lanes.before(np.array([c.start, c.stop]), world)
                parts = [share[a:b] for share, a, b in zip(shares, begin, end, strict=True)]
                together = np.sort(np.concatenate(parts))
                assert np.array_equal(together, np.sort(ids[c.start : c.stop]))
    assert batches(make(**shape), epoch) == batches(plan, epoch)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_worlds_that_divide_the_lanes_share_evenly(world: int) -> None:
    plan = make(rows=3000, block=64, lanes=12, shuffle_window=4, token_budget=4000)
    computed = wanted = 0
    for window in windows(plan):
        for update in window.updates:
            for c in update:
                begin, end = window.lanes.before(np.array([c.start, c.stop]), world)
                computed += (end - begin).max() * world
                wanted += c.stop - c.start
    assert computed / wanted < 1.08


@pytest.mark.parametrize("world", [2, 3, 4])
def test_a_rank_reads_the_blocks_of_its_lanes_and_at_most_one_more_a_neighbor(world: int) -> None:
    plan = make(rows=6 * 8 * 16 * 3, lanes=12, shuffle_window=4)
    for window in windows(plan):
        read = sum(len(np.unique(plan.share(window, r, world).block)) for r in range(world))
        assert len(window.blocks) <= read <= len(window.blocks) + world - 1


def test_seeds_epochs_and_datasets_differ() -> None:
    first = batches(make())
    assert batches(make(), epoch=1) != first
    assert batches(make(seed=1)) != first
    other = Plan([PlanSource(make().sources[0].index, "f" * 64)], stream(), 0)
    assert batches(other) != first


def test_rows_meet_others_in_each_epoch() -> None:
    """Bucketing must not make the same batches again."""
    plan = make(rows=2000, block=64, shuffle_window=8, token_budget=2000)
    first, second = (
        {frozenset(row % 2000 for row in rows) for rows in batches(plan, epoch)} for epoch in (0, 1)
    )
    assert not first & second


def test_bucketing_saves_padding() -> None:
    def share(**keys: Any) -> float:
        plan = make(rows=4000, block=64, shuffle_window=8, token_budget=4000, **keys)
        padded = sum(c.padded_tokens for w in windows(plan) for update in w.updates for c in update)
        return float(plan.sources[0].index.all_lengths.sum() / padded)

    assert share() > 0.85
    assert share(bucketing=False) < 0.6


def test_without_shuffling_the_order_is_the_same_in_each_epoch() -> None:
    plan = make(shuffle=False)
    later = [[row - 5 * 500 for row in rows] for rows in batches(plan, 5)]
    assert batches(plan, 0) == later


def test_the_largest_batch_comes_first_in_the_run() -> None:
    window = make(rows=2000).window(0, 0)
    sizes = [c.padded_tokens for update in window.updates for c in update]
    assert sizes[0] == max(sizes)


def test_micro_batches_of_an_update_share_the_budget() -> None:
    plan = make(rows=2000, block=64, accumulation_steps=3, token_budget=1800, shuffle_window=8)
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


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 300), st.integers(1, 30), st.fractions("1/4", 3, max_denominator=8)
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 8),
)
def test_mixed_datasets_are_passed_over_as_often_as_asked(
    shapes: list[tuple[int, int, Fraction]], lanes: int
) -> None:
    """After any number of epochs no row was taken twice more often than another of its dataset."""
    sources = [
        PlanSource(index(rows, block, seed=i), FINGERPRINT, passes)
        for i, (rows, block, passes) in enumerate(shapes)
    ]
    if not any(source.blocks_before(1) for source in sources):
        return
    plan = Plan(sources, stream(lanes=lanes), 0)
    total = sum(rows for rows, *_ in shapes)
    taken: list[int] = []
    for epoch in range(4):
        if not plan.windows(epoch):
            continue
        taken += rows_of(plan, epoch)
        assert len(taken) == plan.rows_before(epoch + 1)
        assert len(set(taken)) == len(taken)
        times = np.bincount(np.array(taken) % total, minlength=total)
        base = 0
        for rows, _, passes in shapes:
            own = times[base : base + rows]
            assert own.max() - own.min() <= 1
            assert abs(own.mean() - (epoch + 1) * passes) <= 1
            base += rows


def test_each_window_has_its_share_of_each_dataset() -> None:
    sources = [PlanSource(index(1600, 16), FINGERPRINT), PlanSource(index(800, 16), FINGERPRINT)]
    plan = Plan(sources, stream(), 0)
    for window in windows(plan):
        first = int((window.sources == 0).sum())
        assert abs(first - 2 * (len(window.sources) - first)) <= 3
        for lane_blocks in np.array_split(window.sources, 3):
            assert set(lane_blocks.tolist()) == {0, 1}


def test_a_fixed_number_of_rows_a_batch() -> None:
    plan = make(rows=500, batch_rows=32, accumulation_steps=2)
    for window in windows(plan):
        sizes = sorted(c.stop - c.start for update in window.updates for c in update)
        assert set(sizes[1:]) == {16}
    assert sorted(rows_of(plan, 0)) == list(range(500))


def test_sorted_input_is_mixed_in_every_batch() -> None:
    """Rows in the order of their labels: a batch holds both kinds, as of shuffled rows."""
    plan = make(rows=20000, block=64, shuffle_window=16, token_budget=2000)
    shares = [np.mean([row < 10000 for row in rows]) for rows in batches(plan)]
    sizes = [len(rows) for rows in batches(plan)]
    assert np.std(shares) < 1.3 * np.sqrt(np.mean([0.25 / size for size in sizes]))


def test_the_plan_stays_what_it_is() -> None:
    """Change `plan.VERSION` with these hashes: a checkpoint holds a position in the plan."""

    def golden(*plans: Plan) -> str:
        text = repr([batches(plan, epoch) for plan in plans for epoch in range(3)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    mixed = [
        PlanSource(index(300, 16), FINGERPRINT),
        PlanSource(index(90, 8), "ab" * 32, Fraction(3, 2)),
    ]
    found = golden(make(rows=900, accumulation_steps=2)), golden(Plan(mixed, stream(), 7))
    assert (plans.VERSION, *found) == (2, "3dfd52ec90c0c834", "5dfa8775b3286387")
