"""Properties of the plan: every row once, equal work per rank, no dependence on the world size."""

import hashlib
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import TrainingError
from pipeline.stream import plan as plan_module
from pipeline.stream.batching import BatchSpan
from pipeline.stream.index import Block, sample_lengths
from pipeline.stream.plan import Plan, PlanSource, Position, Window
from pipeline.stream.settings import StreamSettings

FINGERPRINT = "0123456789abcdef" * 4


def index(rows: int, block: int, longest: int = 60, seed: int = 0) -> Any:
    """A fake index that holds only row lengths."""
    lengths = np.random.default_rng(seed).integers(1, longest + 1, rows).astype(np.uint16)

    def read(numbers: Any) -> list[Block]:
        return [
            Block(number, number * block, 0, 0, 0, 0, lengths[number * block :][:block])
            for number in numbers.tolist()
        ]

    return SimpleNamespace(
        rows=rows,
        blocks=-(-rows // block),
        rows_per_block=block,
        max_length=int(lengths.max()),
        read=read,
    )


def make_plan(
    rows: int = 500, block: int = 16, seed: int = 0, shuffle: bool = True, **options: Any
) -> Plan:
    sources = [PlanSource(index(rows, block), FINGERPRINT)]
    return Plan(sources, stream(**options), seed, shuffle=shuffle)


def stream(**options: Any) -> StreamSettings:
    return StreamSettings(**({"lanes": 6, "shuffle_window": 2, "token_budget": 600} | options))


def windows(plan: Plan, epoch: int = 0) -> list[Window]:
    return [plan.window(epoch, number) for number in range(plan.window_count(epoch))]


def row_ids_by_batch(plan: Plan, epoch: int = 0) -> list[list[int]]:
    """Row ids of each batch, in the order of training."""
    return [
        plan.share(window).ids[batch.start : batch.stop].tolist()
        for window in windows(plan, epoch)
        for batch in batches(window)
    ]


def batches(window: Window) -> list[BatchSpan]:
    return [batch for update in window.updates for batch in update]


def row_ids(plan: Plan, epoch: int) -> list[int]:
    return [row for batch_rows in row_ids_by_batch(plan, epoch) for row in batch_rows]


def all_lengths(plan: Plan) -> NDArray[np.uint16]:
    """Lengths of all rows of the plan's only source."""
    index = plan.sources[0].index
    return np.concatenate([block.lengths for block in index.read(np.arange(index.blocks))])


plan_options = st.fixed_dictionaries(
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


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(plan_options, st.integers(0, 3), st.integers(1, 24))
def test_batches_cover_each_row_once_fit_the_budget_and_are_shared_by_the_ranks(
    options: dict[str, Any], epoch: int, world: int
) -> None:
    plan = make_plan(**options)
    rows = options["rows"]
    first = rows * epoch
    assert sorted(row_ids(plan, epoch)) == list(range(first, first + rows))
    assert plan.rows_before(epoch) == first
    lengths = all_lengths(plan)
    for window in windows(plan, epoch):
        ids = plan.share(window).ids
        for batch in batches(window):
            assert lengths[ids[batch.start : batch.stop] % rows].max() <= batch.length
            assert batch.padded_tokens <= options["token_budget"]
        if world <= options["lanes"]:
            shares = [plan.share(window, rank, world).ids for rank in range(world)]
            for batch in batches(window):
                starts, stops = window.lanes.rank_rows_before(
                    np.array([batch.start, batch.stop]), world
                )
                parts = [share[a:b] for share, a, b in zip(shares, starts, stops, strict=True)]
                combined = np.sort(np.concatenate(parts))
                assert np.array_equal(combined, np.sort(ids[batch.start : batch.stop]))
    assert row_ids_by_batch(make_plan(**options), epoch) == row_ids_by_batch(plan, epoch)


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 12])
def test_world_sizes_that_divide_the_lanes_share_batches_evenly(world: int) -> None:
    plan = make_plan(rows=3000, block=64, lanes=12, shuffle_window=4, token_budget=4000)
    computed_rows = batch_rows = 0
    for window in windows(plan):
        for batch in batches(window):
            starts, stops = window.lanes.rank_rows_before(
                np.array([batch.start, batch.stop]), world
            )
            computed_rows += (stops - starts).max() * world
            batch_rows += batch.stop - batch.start
    assert computed_rows / batch_rows < 1.08


@pytest.mark.parametrize("world", [2, 3, 4])
def test_neighboring_ranks_share_at_most_one_block(world: int) -> None:
    plan = make_plan(rows=6 * 8 * 16 * 3, lanes=12, shuffle_window=4)
    for window in windows(plan):
        reads = sum(len(np.unique(plan.share(window, r, world).block)) for r in range(world))
        assert len(window.blocks) <= reads <= len(window.blocks) + world - 1


def test_seed_epoch_and_dataset_change_the_batches() -> None:
    first = row_ids_by_batch(make_plan())
    assert row_ids_by_batch(make_plan(), epoch=1) != first
    assert row_ids_by_batch(make_plan(seed=1)) != first
    other = Plan([PlanSource(make_plan().sources[0].index, "f" * 64)], stream(), 0)
    assert row_ids_by_batch(other) != first


def test_no_batch_is_repeated_in_the_next_epoch() -> None:
    """Bucketing must not group the same rows again."""
    plan = make_plan(rows=2000, block=64, shuffle_window=8, token_budget=2000)
    first, second = (
        {frozenset(row % 2000 for row in rows) for rows in row_ids_by_batch(plan, epoch)}
        for epoch in (0, 1)
    )
    assert not first & second


def test_bucketing_reduces_padding() -> None:
    def token_share(**options: Any) -> float:
        plan = make_plan(rows=4000, block=64, shuffle_window=8, token_budget=4000, **options)
        padded = sum(batch.padded_tokens for w in windows(plan) for batch in batches(w))
        return float(all_lengths(plan).sum() / padded)

    assert token_share() > 0.85
    assert token_share(bucketing=False) < 0.6


def test_without_shuffling_every_epoch_has_the_same_order() -> None:
    plan = make_plan(shuffle=False)
    later = [[row - 5 * 500 for row in rows] for rows in row_ids_by_batch(plan, 5)]
    assert row_ids_by_batch(plan, 0) == later


def test_the_first_batch_of_a_run_is_the_largest_of_its_window() -> None:
    window = make_plan(rows=2000).window(0, 0)
    sizes = [batch.padded_tokens for batch in batches(window)]
    assert sizes[0] == max(sizes)


@pytest.mark.parametrize("options", [{}, {"repeat": 2.5}, {"batch_rows": 24}])
def test_updates_of_an_epoch_are_counted_or_of_many_windows_estimated(
    options: dict[str, Any],
) -> None:
    plan = make_plan(rows=3000, **options)
    expected = sum(len(window.updates) for window in windows(plan))
    assert plan.window_count(0) > 4
    assert plan.count_updates(max_windows=1000) == (expected, True)
    estimate, exact = plan.count_updates()
    assert not exact
    assert estimate == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("blocks, rows", [(1000, 500), (4, 4 * 16 - 12)])
def test_lengths_are_sampled_from_blocks_over_the_whole_split(blocks: int, rows: int) -> None:
    """The last block has 4 rows."""
    plan = make_plan(rows=500, block=16)
    lengths = sample_lengths(plan.sources[0].index, blocks)
    assert len(lengths) == rows
    everything = all_lengths(plan)
    assert lengths[:16].tolist() == everything[:16].tolist()
    assert lengths[-4:].tolist() == everything[-4:].tolist()


def test_accumulated_batches_of_an_update_share_the_token_budget() -> None:
    plan = make_plan(rows=2000, block=64, accumulation_steps=3, token_budget=1800, shuffle_window=8)
    window = plan.window(0, 0)
    assert all(len(update) == 3 for update in window.updates[:-1])
    assert all(batch.padded_tokens <= 600 for batch in batches(window))
    assert any(len({batch.length for batch in update}) > 1 for update in window.updates)


@pytest.mark.parametrize("stop", [0, 1, 5, 11])
def test_a_plan_resumed_at_a_position_yields_the_remaining_updates(stop: int) -> None:
    plan = make_plan(rows=700)
    updates = [(w.number, n) for w in windows(plan, 2) for n in range(len(w.updates))]
    number, update = updates[stop]
    remaining = [
        (window.number, n)
        for window, completed in plan.from_position(Position(2, number, update))
        for n in range(completed, len(window.updates))
    ]
    assert remaining == updates[stop:]


def test_a_world_size_above_the_lanes_is_refused_and_the_maximum_reported() -> None:
    make_plan(lanes=6).check_world(6)
    with pytest.raises(TrainingError, match=r"world size 7: .*at most 6 ranks.*start 6"):
        make_plan(lanes=6).check_world(7)


@pytest.mark.slow
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
def test_mixed_datasets_get_their_passes_per_epoch(
    datasets: list[tuple[int, int, Fraction]], lanes: int
) -> None:
    """After any epoch, the use counts of a dataset's rows differ by at most one."""
    sources = [
        PlanSource(index(rows, block, seed=i), FINGERPRINT, passes)
        for i, (rows, block, passes) in enumerate(datasets)
    ]
    if not any(source.blocks_before(1) for source in sources):
        return
    plan = Plan(sources, stream(lanes=lanes), 0)
    total = sum(rows for rows, *_ in datasets)
    taken: list[int] = []
    for epoch in range(4):
        if not plan.window_count(epoch):
            continue
        taken += row_ids(plan, epoch)
        assert len(taken) == plan.rows_before(epoch + 1)
        assert len(set(taken)) == len(taken)
        uses = np.bincount(np.array(taken) % total, minlength=total)
        base = 0
        for rows, _, passes in datasets:
            dataset_uses = uses[base : base + rows]
            assert dataset_uses.max() - dataset_uses.min() <= 1
            assert abs(dataset_uses.mean() - (epoch + 1) * passes) <= 1
            base += rows


def test_each_window_mixes_its_share_of_every_dataset() -> None:
    sources = [PlanSource(index(1600, 16), FINGERPRINT), PlanSource(index(800, 16), FINGERPRINT)]
    plan = Plan(sources, stream(), 0)
    for window in windows(plan):
        from_first = int((window.sources == 0).sum())
        assert abs(from_first - 2 * (len(window.sources) - from_first)) <= 3
        for part_sources in np.array_split(window.sources, 3):
            assert set(part_sources.tolist()) == {0, 1}


def test_batch_rows_fixes_the_rows_per_batch() -> None:
    plan = make_plan(rows=500, batch_rows=32, accumulation_steps=2)
    for window in windows(plan):
        sizes = sorted(batch.stop - batch.start for batch in batches(window))
        assert set(sizes[1:]) == {16}
    assert sorted(row_ids(plan, 0)) == list(range(500))


def test_input_sorted_by_label_is_mixed_in_every_batch() -> None:
    """The first half of the rows has one label; batches mix both like uniformly shuffled rows."""
    plan = make_plan(rows=20000, block=64, shuffle_window=16, token_budget=2000)
    shares = [np.mean([row < 10000 for row in rows]) for rows in row_ids_by_batch(plan)]
    sizes = [len(rows) for rows in row_ids_by_batch(plan)]
    assert np.std(shares) < 1.3 * np.sqrt(np.mean([0.25 / size for size in sizes]))


def test_batches_match_the_golden_hashes_of_the_plan_version() -> None:
    """Increase `plan.VERSION` when these hashes change: checkpoints hold positions in the plan."""

    def digest(*plans: Plan) -> str:
        text = repr([row_ids_by_batch(plan, epoch) for plan in plans for epoch in range(3)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    mixed = [
        PlanSource(index(300, 16), FINGERPRINT),
        PlanSource(index(90, 8), "ab" * 32, Fraction(3, 2)),
    ]
    digests = digest(make_plan(rows=900, accumulation_steps=2)), digest(Plan(mixed, stream(), 7))
    assert (plan_module.VERSION, *digests) == (2, "3dfd52ec90c0c834", "5dfa8775b3286387")
