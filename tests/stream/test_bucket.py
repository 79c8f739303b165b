"""Batches of rows in memory: groups of similar length whose cost is smallest."""

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.stream.bucket import CPU_COST, GPU_COST, BatchCost, buckets, cheapest_groups
from pipeline.stream.rows import Columns, Ragged


def total_cost(lengths: NDArray[np.int64], groups: list[slice], cost: BatchCost) -> int:
    return sum(int(lengths[g].max()) * (g.stop - g.start + cost.rows) + cost.tokens for g in groups)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cost", [BatchCost(0, 0), BatchCost(1, 20), BatchCost(3, 0), GPU_COST])
def test_no_other_split_costs_less(seed: int, cost: BatchCost) -> None:
    lengths = -np.sort(-np.random.default_rng(seed).integers(1, 60, size=9))
    count = len(lengths)
    groups = cheapest_groups(lengths, cost)
    assert [g.start for g in groups] + [count] == [0] + [g.stop for g in groups]
    every_split = (
        [slice(a, b) for a, b in zip((0, *cuts), (*cuts, count), strict=True)]
        for number in range(count)
        for cuts in combinations(range(1, count), number)
    )
    smallest = min(total_cost(lengths, split, cost) for split in every_split)
    assert total_cost(lengths, groups, cost) == smallest


def test_a_group_pays_for_its_padding() -> None:
    lengths = np.array([500, 500, 490, 40, 38])
    assert cheapest_groups(lengths, CPU_COST) == [slice(0, 3), slice(3, 5)]
    assert cheapest_groups(lengths, GPU_COST) == [slice(0, 5)]


@pytest.mark.parametrize("budget", [1, 100, 10_000])
def test_batches_have_each_row_once_within_the_budget(budget: int) -> None:
    draw = np.random.default_rng(0)
    lengths = draw.integers(1, 300, size=200)
    numbers = np.arange(200)
    columns: Columns = {
        "text": Ragged.of(np.repeat(numbers, lengths), lengths),
        "number": numbers,
    }
    seen: list[int] = []
    for batch in buckets(columns, budget):
        tokens = batch.columns["text"]
        assert tokens.numel() <= max(budget, 1.06 * lengths.max())
        for row, number in enumerate(batch.columns["number"].tolist()):
            assert (tokens[row, : lengths[number]] == number).all()
            seen.append(number)
    assert sorted(seen) == list(range(200))
