"""Choose the units to hold out, so that the splits have the requested numbers of rows.

A unit is a set of rows that must be in the same split (see `pipeline.corpus.fields.split_units`).
Units are chosen in ascending order of their numbers. The number of a unit is a hash, or a time with
the latest time first. The splits thus depend on the rows only, not on their order or their files.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


class Units(NamedTuple):
    """The units with numbers in one range, in ascending order."""

    numbers: NDArray[np.uint64]
    rows: Indices
    """Number of rows of each unit."""
    strata: Indices
    """Stratum of each unit."""


ReadRanges = Callable[[], Iterable[Units]]
"""Function that returns the units of all ranges, in ascending order of the ranges."""


@dataclass
class ChosenUnits:
    """The units that were chosen for a held-out split."""

    numbers: list[NDArray[np.uint64]] = field(default_factory=list)
    rows: int = 0
    last: int = 0
    """The highest number."""

    def add(self, units: Units) -> None:
        if len(units.numbers):
            self.numbers.append(units.numbers)
            self.rows += int(units.rows.sum())
            self.last = max(self.last, int(units.numbers.max()))

    @property
    def all_numbers(self) -> NDArray[np.uint64]:
        return np.concatenate([np.zeros(0, np.uint64), *self.numbers])

    @property
    def count(self) -> int:
        """Number of units."""
        return sum(map(len, self.numbers))


def hold_out(
    read_units: ReadRanges, fractions: Mapping[str, float], strata: int, *, in_order: bool
) -> dict[str, ChosenUnits]:
    """Choose the units of each held-out split, in the order of the splits in `fractions`.

    A split gets its fraction of all rows, rounded and divided among the strata in proportion to
    their sizes (largest remainders), or fewer rows if no further whole unit fits. A split gets at
    least one unit if there are enough.

    With `in_order`, a split ends before the first unit that does not fit, so its units have lower
    numbers than all later ones; otherwise such a unit is skipped.
    """
    sizes = np.zeros(strata, np.int64)
    for units in read_units():
        sizes += np.bincount(units.strata, units.rows, strata).astype(np.int64)
    chosen: dict[str, ChosenUnits] = {}
    taken = np.zeros(strata, np.int64)
    for split, fraction in fractions.items():
        wanted = max(round(fraction * int(sizes.sum())), 1)
        quotas = _quotas(sizes, sizes - taken, wanted)
        choice = chosen[split] = ChosenUnits()
        for units in _remaining(read_units, chosen, split):
            for stratum in np.unique(units.strata):
                own = _select(units, units.strata == stratum)
                fitting, ended = _fitting(own.rows, quotas[stratum], in_order=in_order)
                picked = _select(own, fitting)
                choice.add(picked)
                size = int(picked.rows.sum())
                taken[stratum] += size
                quotas[stratum] = 0 if ended else quotas[stratum] - size
        if not choice.count:
            _take_one(read_units, chosen, split, in_order=in_order)
    return chosen


def _quotas(sizes: Indices, available: Indices, wanted: int) -> Indices:
    """Divide `wanted` rows among strata in proportion to their sizes, by largest remainders.

    At least one of the `available` rows of a stratum stays in training.
    """
    limits = np.maximum(available - 1, 0)
    shares = wanted * sizes / max(int(sizes.sum()), 1)
    quotas = np.minimum(np.floor(shares).astype(np.int64), limits)
    for stratum in np.lexsort((np.arange(len(sizes)), np.floor(shares) - shares)):
        if quotas.sum() >= wanted:
            break
        quotas[stratum] += quotas[stratum] < limits[stratum]
    return quotas


def _fitting(rows: Indices, quota: int, *, in_order: bool) -> tuple[NDArray[np.bool_], bool]:
    """Return a mask of the units that fit into a quota of rows, taken one after the other, and
    whether the stratum is complete, so that no later unit may be taken."""
    taken = np.zeros(len(rows), bool)
    candidates = np.arange(len(rows))
    while len(candidates) and quota > 0:
        count = int(np.searchsorted(np.cumsum(rows[candidates]), quota, "right"))
        taken[candidates[:count]] = True
        quota -= int(rows[candidates[:count]].sum())
        candidates = candidates[count:]
        if in_order and len(candidates):
            return taken, True
        candidates = candidates[rows[candidates] <= quota]
    return taken, quota <= 0


def _take_one(
    read_units: ReadRanges, chosen: Mapping[str, ChosenUnits], split: str, *, in_order: bool
) -> None:
    """Add one unit to an empty split: with `in_order` the first, otherwise the smallest.

    The last remaining unit is not taken.
    """
    best: Units | None = None
    count = 0
    for units in _remaining(read_units, chosen, split):
        count += len(units.numbers)
        if not len(units.numbers) or (in_order and best):
            continue
        first = 0 if in_order else int(units.rows.argmin())
        if best is None or units.rows[first] < best.rows[0]:
            best = _select(units, [first])
    if best and count > 1:
        chosen[split].add(best)


def _remaining(
    read_units: ReadRanges, chosen: Mapping[str, ChosenUnits], split: str
) -> Iterator[Units]:
    """Yield the units that are not chosen for another split."""
    others = [choice.all_numbers for name, choice in chosen.items() if name != split]
    used = np.concatenate([np.zeros(0, np.uint64), *others])
    for units in read_units():
        yield _select(units, ~np.isin(units.numbers, used))


def _select(units: Units, index: Any) -> Units:
    return Units(*(values[index] for values in units))
