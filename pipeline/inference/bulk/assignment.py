"""Which parts a process makes.

Part p belongs to rank p % N. A process without parts of its own makes some of those of others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OwnParts:
    """The parts of a rank that are not done. Their number is unknown: there is always a next."""

    rank: int
    size: int
    done: set[int]

    def next_from(self, part: int) -> int:
        """Return the first of these parts that is not before `part`."""
        part += (self.rank - part) % self.size
        while part in self.done:
            part += self.size
        return part


@dataclass(frozen=True)
class ListedParts:
    """Some parts, by their numbers in ascending order."""

    numbers: Sequence[int]

    def next_from(self, part: int) -> int | None:
        """Return the first of these parts that is not before `part`; None if there is none."""
        return next((number for number in self.numbers if number >= part), None)


def spare_parts(missing: Iterable[int], size: int) -> list[int]:
    """Return the missing parts that another process may make: about the last half of each rank's.

    A rank makes its parts in order, and may be making the first one now.

    >>> spare_parts([4, 5, 6, 8, 10], 2)
    [10]
    """
    by_owner = [[part for part in missing if part % size == rank] for rank in range(size)]
    return sorted(part for own in by_owner for part in own[1 + len(own) // 2 :])
