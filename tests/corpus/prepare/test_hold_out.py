"""Which units a split gets."""

import numpy as np
import pytest

from pipeline.corpus.prepare.hold_out import ChosenUnits, Units, hold_out


def choose(
    units: list[tuple[int, int, int]],
    fractions: dict[str, float],
    *,
    strata: int = 1,
    in_order: bool = False,
    ranges: int = 1,
) -> dict[str, list[int]]:
    """Return the numbers of the chosen units (number, rows, stratum), read in several ranges."""
    ordered = sorted(units)

    def read() -> list[Units]:
        parts = np.array_split(np.arange(len(ordered)), ranges)
        columns = np.array(ordered, np.int64).reshape(-1, 3)
        return [Units(columns[p, 0].astype(np.uint64), columns[p, 1], columns[p, 2]) for p in parts]

    chosen: dict[str, ChosenUnits] = hold_out(read, fractions, strata, in_order=in_order)
    assert all(
        choice.rows == sum(rows for number, rows, _ in units if number in choice.all_numbers)
        for choice in chosen.values()
    )
    return {split: choice.all_numbers.tolist() for split, choice in chosen.items()}


@pytest.mark.parametrize("ranges", [1, 2, 7])
def test_single_rows_are_held_out_by_ascending_number(ranges: int) -> None:
    units = [(number, 1, 0) for number in range(40)]
    found = choose(units, {"validation": 0.1, "test": 0.2}, ranges=ranges)
    assert found == {"validation": [0, 1, 2, 3], "test": [4, 5, 6, 7, 8, 9, 10, 11]}


@pytest.mark.parametrize("ranges", [1, 3])
def test_each_stratum_gets_its_share_and_the_total_is_exact(ranges: int) -> None:
    """Of 25 rows, 0.2 are 5: shares 3, 1.4 and 0.6, so the third gets the remaining row."""
    units = [(number, 1, 0 if number < 15 else 1 if number < 22 else 2) for number in range(25)]
    found = choose(units, {"validation": 0.2}, strata=3, ranges=ranges)
    assert found == {"validation": [0, 1, 2, 15, 22]}


def test_a_stratum_keeps_a_row_to_train_on() -> None:
    units = [(0, 1, 0), (1, 1, 0), (2, 1, 1), *((n, 1, 2) for n in range(3, 10))]
    found = choose(units, {"validation": 0.45, "test": 0.45}, strata=3)
    held_out = {*found["validation"], *found["test"]}
    assert len(held_out) == 7  # 9 are asked for, and each stratum keeps one
    assert 2 not in held_out
    assert not {0, 1} <= held_out
    assert not {*range(3, 10)} <= held_out


@pytest.mark.parametrize("ranges", [1, 2, 5])
def test_a_unit_that_does_not_fit_is_left_out_and_a_later_one_taken(ranges: int) -> None:
    units = [(0, 6, 0), (1, 50, 0), (2, 3, 0), (3, 2, 0), (4, 1, 0), (5, 38, 0)]
    assert choose(units, {"validation": 0.1}, ranges=ranges) == {"validation": [0, 2, 4]}


@pytest.mark.parametrize("ranges", [1, 2, 5])
def test_in_order_nothing_follows_a_unit_that_does_not_fit(ranges: int) -> None:
    units = [(0, 6, 0), (1, 50, 0), (2, 3, 0), (3, 2, 0), (4, 1, 0), (5, 38, 0)]
    assert choose(units, {"test": 0.1}, in_order=True, ranges=ranges) == {"test": [0]}
    found = choose(units, {"test": 0.6, "validation": 0.05}, in_order=True, ranges=ranges)
    assert found == {"test": [0, 1, 2], "validation": [3, 4]}


@pytest.mark.parametrize("ranges", [1, 2])
def test_the_smallest_unit_is_held_out_if_none_fits(ranges: int) -> None:
    units = [(0, 30, 0), (1, 20, 0), (2, 50, 0)]
    assert choose(units, {"validation": 0.1}, ranges=ranges) == {"validation": [1]}
    assert choose(units, {"test": 0.1}, in_order=True, ranges=ranges) == {"test": [0]}
    two = choose(units, {"validation": 0.1, "test": 0.1}, ranges=ranges)
    assert two == {"validation": [1], "test": [0]}


def test_the_last_unit_is_never_held_out() -> None:
    assert choose([(7, 30, 0)], {"validation": 0.1}) == {"validation": []}
    assert choose([(7, 1, 0), (8, 1, 0)], {"validation": 0.5, "test": 0.4}) == {
        "validation": [7],
        "test": [],
    }
