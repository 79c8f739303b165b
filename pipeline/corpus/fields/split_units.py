"""Split units: all rows of a unit are in the same split.

The unit of a row is its value in the column `corpus.group`, or its time in `corpus.time`. Without
these keys it is the row's first value, such as its text, whose hash the scan computes anyway.
"""

import math
import struct
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Any, NamedTuple

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.base import as_text, string_flaw
from pipeline.corpus.fields.label_names import label_key
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SkipReason
from pipeline.settings import Conflict

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SIGN_BIT = 1 << 63
MAX_UINT64 = (1 << 64) - 1


class TimeKind(StrEnum):
    """Format of the values of `corpus.time`; only values of one kind can be compared."""

    NUMBER = "numbers"
    DATE = "dates"


class Unit(NamedTuple):
    """The split unit of a row."""

    number: int
    """64-bit number, equal for rows of the same unit. The latest time has the lowest number."""
    kind: TimeKind | None = None


class SplitUnits:
    """Determines the unit of each row from the value in a column."""

    def __init__(self, settings: CorpusSettings) -> None:
        self._is_time, self._format = bool(settings.time), settings.time_format
        self.column = settings.time or settings.group
        """The column that is read; empty if the rows' first values are their units."""

    def unit(self, value: Any) -> Unit | SkipReason:
        """Return the unit of a row with this raw value in the column."""
        if self._is_time:
            return self._time(value)
        text = as_text(value)
        if not text:
            return SkipReason.NO_GROUP
        return string_flaw([text]) or Unit(_hash(label_key(text)))

    def _time(self, value: Any) -> Unit | SkipReason:
        try:
            if not isinstance(value, date):  # datetime is a subclass
                value = _parse_time(as_text(value), self._format)
            if isinstance(value, float):
                if not math.isfinite(value):
                    return SkipReason.NO_TIME
                return Unit(MAX_UINT64 - _sortable_bits(value), TimeKind.NUMBER)
            microseconds = (_with_zone(value) - EPOCH) // timedelta(microseconds=1)
        except (ValueError, OverflowError):
            return SkipReason.NO_TIME
        return Unit(MAX_UINT64 - (microseconds + SIGN_BIT), TimeKind.DATE)


def stratifies(settings: Mapping[str, Any], fields: Iterable[FieldSpec]) -> bool:
    """Return whether the same fraction of each label is held out.

    `settings` are the keys of the section `corpus`; datasets of earlier versions lack `stratify`.
    """
    if settings.get("group") or settings.get("time"):
        return False
    chosen = settings.get("stratify", False)
    if chosen is None:
        return any(field.kind_class.has_one_name for field in fields)
    return bool(chosen)


def describe_time(unit: int, kind: TimeKind) -> str:
    """Return the time of a unit as text, for messages; dates are in UTC."""
    ascending = MAX_UINT64 - unit
    if kind is TimeKind.NUMBER:
        bits = ascending ^ (SIGN_BIT if ascending & SIGN_BIT else MAX_UINT64)
        number: float = struct.unpack("<d", struct.pack("<Q", bits))[0]
        return f"{number:.17g}"
    moment = EPOCH + timedelta(microseconds=ascending - SIGN_BIT)
    return moment.replace(tzinfo=None).isoformat(" ").removesuffix(" 00:00:00")


def split_conflicts(settings: CorpusSettings) -> Iterator[Conflict]:
    """Yield conflicts between the keys that determine the splits."""
    fractions, files = settings.held_out_fractions, settings.held_out_files
    for key in ("group", "time"):
        if getattr(settings, key) and files:
            yield Conflict(
                f"corpus.{key}",
                f"needs a fraction of rows to hold out, but corpus.{next(iter(files))} names files",
                f"remove it, or set corpus.{' and corpus.'.join(files)} to a fraction",
            )
    if settings.stratify and not fractions:
        yield Conflict("corpus.stratify", "no fraction of the rows is held out", "remove it")
    chosen = [key for key in ("group", "time", "stratify") if getattr(settings, key)]
    if len(chosen) > 1:
        yield Conflict(
            f"corpus.{chosen[1]}",
            f"cannot be combined with corpus.{chosen[0]}: both decide which rows are held out",
            "remove one of them",
        )
    if settings.time_format and not settings.time:
        yield Conflict("corpus.time_format", "applies only to corpus.time", "remove it")
    if sum(fractions.values()) >= 1:
        yield Conflict(
            "corpus.test",
            f"leaves no row to train on: corpus.validation={settings.validation}",
            "set smaller fractions",
        )


def _parse_time(text: str, time_format: str) -> float | date:
    """Return a number or a date. Raises ValueError."""
    if time_format:
        return datetime.strptime(text, time_format)
    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text)


def _with_zone(value: date) -> datetime:
    """Return a date or time as a time with a time zone, UTC by default."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _sortable_bits(number: float) -> int:
    """Return a number as 64 bits that sort in the order of the numbers."""
    bits: int = struct.unpack("<Q", struct.pack("<d", number + 0.0))[0]  # -0.0 becomes 0.0
    return bits ^ (MAX_UINT64 if bits & SIGN_BIT else SIGN_BIT)


def _hash(text: str) -> int:
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")
