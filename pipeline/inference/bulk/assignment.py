"""Assignment of the parts of an output to processes.

Part p belongs to rank p % N. A process that has finished its own parts takes over parts of others.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class OwnParts:
    """The unfinished parts of a rank. The total is unknown, so there is always a next part."""

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
    """Parts given by their numbers, in ascending order."""

    numbers: Sequence[int]

    def next_from(self, part: int) -> int | None:
        """Return the first of these parts that is not before `part`; None if there is none."""
        return next((number for number in self.numbers if number >= part), None)


def spare_parts(missing: Iterable[int], size: int) -> list[int]:
    """Return the missing parts that another process may take over: about the second half of each
    rank's.

    A rank makes its parts in order, and may be working on its first missing part.

    >>> spare_parts([4, 5, 6, 8, 10], 2)
    [10]
    """
    by_owner = [[part for part in missing if part % size == rank] for rank in range(size)]
    return sorted(part for own in by_owner for part in own[1 + len(own) // 2 :])
