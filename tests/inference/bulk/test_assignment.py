"""Which parts a process makes."""

from itertools import islice

import pytest

from pipeline.inference.bulk.assignment import ListedParts, OwnParts, spare_parts


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_each_part_belongs_to_one_rank(size: int) -> None:
    done = {0, 3, 4, 9}
    made: list[int] = []
    for rank in range(size):
        own, part = OwnParts(rank, size, done), -1
        while (part := own.next_from(part + 1)) < 20:
            made.append(part)
    assert sorted(made) == [part for part in range(20) if part not in done]


def test_listed_parts() -> None:
    listed = ListedParts([2, 5])
    assert [listed.next_from(part) for part in (0, 2, 3, 6)] == [2, 2, 5, None]


def test_the_first_missing_part_of_a_rank_is_not_spare() -> None:
    assert spare_parts([7], 1) == spare_parts([6, 8], 2) == spare_parts([], 2) == []
    assert spare_parts(range(12), 2) == [8, 9, 10, 11]
    assert list(islice(spare_parts(range(0, 12, 2), 2), 1)) == [8]
