"""Counts of skipped rows and unknown labels in an evaluation."""

from collections import Counter
from collections.abc import Iterator, Sequence

from pipeline.corpus.skip_reason import (
    SKIP_DESCRIPTIONS,
    SKIPPED_BY_REQUEST,
    SkipReason,
    bad_row_error,
)
from pipeline.errors import InputError
from pipeline.wording import shorten

MOST_FREQUENT = 5
"""Number of unknown labels in a message, the most frequent ones."""
MAX_NAME_CHARACTERS = 60
"""Maximum number of characters of an unknown label in a message."""


class SkipCounts(Counter[SkipReason]):
    """Number of skipped rows by reason, with the place of the first row for each reason.

    With `stop`, the first unusable row is an error, as with `corpus.on_bad_row=stop`.
    """

    def __init__(self, *, stop: bool = False) -> None:
        super().__init__()
        self.stop = stop
        self.first: dict[SkipReason, str] = {}

    def add(self, reason: SkipReason, place: str, detail: str = "") -> None:
        if self.stop and reason not in SKIPPED_BY_REQUEST:
            raise InputError(bad_row_error(place, reason, detail))
        self[reason] += 1
        self.first.setdefault(reason, place)

    def describe(self) -> Iterator[str]:
        """Yield a line for each reason."""
        for reason, number in self.items():
            yield (
                f"skipped {number:,} row(s): {SKIP_DESCRIPTIONS[reason]}, first "
                f"{self.first[reason]}"
            )


class UnknownLabels:
    """Labels and tags of evaluated rows that are unknown to the run."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()
        self.rows = 0
        self._first = ""

    def add(self, names: Sequence[str], place: str) -> None:
        """Count the unknown names of a row, if it has any."""
        if names:
            self.names.update(names)
            self.rows += 1
            self._first = self._first or place

    def describe(self) -> str:
        """Return a line with the number of unknown labels and the most frequent ones."""
        frequent = ", ".join(
            f"{shorten(name, MAX_NAME_CHARACTERS)!r} {number:,}"
            for name, number in self.names.most_common(MOST_FREQUENT)
        )
        more = ", ..." if len(self.names) > MOST_FREQUENT else ""
        return (
            f"{self.names.total():,} label(s) in {self.rows:,} row(s) are unknown to this run and "
            f"count as wrong: {frequent}{more}; first {self._first}; --unknown-labels=refuse stops "
            "instead"
        )
