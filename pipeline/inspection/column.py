"""A column of a table: the type of its values, detected from the values, and their statistics."""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from functools import cached_property, partial
from typing import Any

from pipeline.corpus.fields.base import as_text
from pipeline.corpus.fields.label_names import label_key
from pipeline.corpus.fields.text_lists import parse_list, parse_map
from pipeline.corpus.readers.folders import IMAGE_SUFFIXES

MOST = 0.95
"""Minimum share of the values that must have a type, so that it is the type of the column."""
UNIQUE = 0.95
"""Minimum share of distinct values in a column of ids."""
FEW_ROWS = 10
"""With fewer rows, the values are too few to show the type of a column."""
REPEATED = 0.5
"""Maximum share of distinct values in a label column."""
OFTEN_REPEATED, LONG_TEXT, FEW_TEXTS = 0.1, 12, 20
"""Values of several words are labels if at most the share OFTEN_REPEATED of them is distinct,
unless they have more than LONG_TEXT words and more than FEW_TEXTS distinct values."""
TEXT_WORDS = 3.0
"""Minimum mean number of words per value in a text column."""
IMAGE_MAGIC = (b"\x89PNG", b"\xff\xd8\xff")
BINARY = ("0", "1", "true", "false")
TIME_FORMATS = (
    "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%Y/%m/%d", "%d-%m-%Y", "%d.%m.%y", "%d/%m/%y", "%m/%d/%y",
    "%d.%m.%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%m/%d/%Y %H:%M:%S",
    "%d/%m/%Y %H:%M:%S", "%b %d, %Y", "%d %b %Y", "%B %d, %Y", "%d %B %Y",
    "%a %b %d %H:%M:%S %z %Y", "%a, %d %b %Y %H:%M:%S %z",
)  # fmt: skip
"""Formats of dates that are not ISO 8601, as `corpus.time_format` names them."""
TEXT_NAMES = re.compile(
    r"text|texts|body|review|content|sentence|document|comment|message|note|notes|description|"
    r"tweet|post|article|utterance|query|question|abstract|mail|email|complaint|feedback|txt|"
    r"free.?text|freitext|.*_text|.*comment.*|.*message|.*note", re.IGNORECASE,
)  # fmt: skip
LABEL_NAMES = re.compile(
    r"labels?|class|classes|category|categories|sentiment|target|topic|topics|intent|queue|"
    r"department|type|kind|genre|genres|tags?|cls|stars|rating|score|grade|polarity|emotion|"
    r"priority|spam|is_.*|.*_label|.*category|.*class|label_.*", re.IGNORECASE,
)  # fmt: skip
ID_NAMES = re.compile(r"(?:.*[_ .\-]|)(?:id|uuid|guid|key|url|uri|link|index|nr|no)|unnamed.*|",
                      re.IGNORECASE)  # fmt: skip
CAMEL_ID = re.compile(r".*[a-z](?:ID|Id)")
LONG_LIST = 200


class Kind(StrEnum):
    """The type of the values of a column."""

    TEXT = "text"
    LABEL = "label"
    NUMBER = "number"
    DATE = "date"
    ID = "id"
    LIST = "list"
    MAP = "map"
    IMAGE = "image"
    BYTES = "bytes"
    CONSTANT = "constant"
    EMPTY = "empty"


@dataclass(frozen=True)
class Column:
    """The values of a column in the sampled rows."""

    name: str
    kind: Kind
    values: list[Any] = field(repr=False)
    """All values, including missing ones."""
    present: list[Any] = field(repr=False)
    """The values that are not missing: texts, lists of texts, maps or images."""
    time_format: str = ""
    """Format of dates; empty for ISO 8601."""

    @classmethod
    def of(cls, name: str, values: list[Any]) -> "Column":
        present = [value for value in values if not _is_missing(value)]
        kind, converted, time_format = _kind(name, present)
        return cls(name, kind, values, converted, time_format)

    @cached_property
    def missing(self) -> float:
        """Share of the rows without a value."""
        return 1 - len(self.present) / max(len(self.values), 1)

    @cached_property
    def counts(self) -> Counter[str]:
        """Number of rows with each value."""
        return Counter(map(_shown, self.present))

    @property
    def distinct(self) -> int:
        return len(self.counts)

    @property
    def share_distinct(self) -> float:
        return self.distinct / max(len(self.present), 1)

    @cached_property
    def items(self) -> Counter[str]:
        """Number of occurrences of each list item."""
        lists = self.present if self.kind is Kind.LIST else []
        return Counter(item for value in lists for item in value)

    @cached_property
    def words(self) -> list[int]:
        """Number of words of each value; characters if the script has no spaces between words."""
        if self.kind is Kind.LIST:
            return [len(value) for value in self.present]
        if self.kind in (Kind.MAP, Kind.IMAGE, Kind.BYTES):
            return []
        return [len(text) if self.is_unspaced else len(text.split()) for text in self.present]

    @cached_property
    def is_unspaced(self) -> bool:
        """Whether the script has no spaces between words, as in Chinese."""
        return self.kind is Kind.TEXT and _is_unspaced(self.present)

    @cached_property
    def mean_words(self) -> float:
        return sum(self.words) / max(len(self.words), 1)

    @cached_property
    def numbers(self) -> list[float]:
        return [float(v) for v in self.present if is_number(v)] if self.is_numeric else []

    @cached_property
    def is_numeric(self) -> bool:
        """Whether the values are numbers, even if the column is a constant or an id."""
        scalars = (Kind.NUMBER, Kind.ID, Kind.CONSTANT, Kind.LABEL)
        return self.kind in scalars and _share(self.present, is_number) >= MOST

    @cached_property
    def is_whole(self) -> bool:
        return all(number.is_integer() for number in self.numbers)

    @cached_property
    def is_binary(self) -> bool:
        """Whether all values are 0 or 1, or true or false."""
        return bool(self.present) and self.kind not in (Kind.LIST, Kind.MAP, Kind.IMAGE) and all(
            label_key(text) in BINARY for text in self.counts
        )  # fmt: skip

    @property
    def example(self) -> str:
        """One value as text; the items of a list are separated by spaces."""
        if self.kind is Kind.IMAGE:
            first = self.present[0] if self.present else ""
            return first if isinstance(first, str) else "(image)"
        return next(iter(self.counts), "")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value[:LONG_LIST])
    if isinstance(value, bytes):
        return f"({len(value)} bytes {hash(value)})"
    return value if isinstance(value, str) else str(value)


def _is_missing(value: Any) -> bool:
    if isinstance(value, (list, dict, bytes)):
        return value is None or len(value) == 0 if not isinstance(value, list) else False
    return not as_text(value)


def _kind(name: str, present: Sequence[Any]) -> tuple[Kind, list[Any], str]:
    """Return the type of values, the values as texts, lists or maps, and the format of dates."""
    if not present:
        return Kind.EMPTY, [], ""
    if _share(present, _is_image) >= MOST:
        return Kind.IMAGE, list(present), ""
    if _share(present, lambda v: isinstance(v, bytes)) >= MOST and not _are_texts(present):
        return Kind.BYTES, list(present), ""
    has_lists = any(isinstance(value, list) and len(value) > 1 for value in present)
    is_mixed = has_lists and all(isinstance(value, (list, str)) for value in present)
    if is_mixed or _share(present, lambda v: isinstance(v, list) or _looks_like_list(v)) >= MOST:
        return Kind.LIST, [_items(value) for value in present], ""
    if _share(present, lambda v: isinstance(v, dict) or _looks_like_map(v)) >= MOST:
        return Kind.MAP, [v if isinstance(v, dict) else parse_map(as_text(v)) for v in present], ""
    if all(isinstance(value, date) for value in present):
        return Kind.DATE, [value.isoformat() for value in present], ""
    texts = [_items(v)[0] if isinstance(v, list) and len(v) == 1 else as_text(v) for v in present]
    kind, time_format = _kind_of_texts(name, texts)
    return kind, texts, time_format


def _kind_of_texts(name: str, texts: Sequence[str]) -> tuple[Kind, str]:
    distinct, rows = len(set(texts)), len(texts)
    if distinct == 1 and rows >= FEW_ROWS:
        return Kind.CONSTANT, ""
    is_unique = distinct >= UNIQUE * rows and rows >= FEW_ROWS
    if _share(texts, is_number) >= MOST:
        return Kind.ID if _is_numeric_id(name, texts, unique=is_unique) else Kind.NUMBER, ""
    if (time_format := find_time_format(texts)) is not None:
        return Kind.DATE, time_format
    words = sum(len(text.split()) for text in texts) / rows
    if is_unique and words < 1.5 and not _is_unspaced(texts):
        return Kind.ID, ""
    if rows < FEW_ROWS:
        return _kind_of_few(name, texts, words), ""
    if words >= TEXT_WORDS:
        # Texts may repeat, too; only a few distinct values that repeat often are labels.
        is_text = distinct > OFTEN_REPEATED * rows or (words > LONG_TEXT and distinct > FEW_TEXTS)
        return Kind.TEXT if is_text else Kind.LABEL, ""
    if distinct <= REPEATED * rows:
        return Kind.LABEL, ""
    return Kind.ID if _is_id_name(name) else Kind.TEXT, ""


def _kind_of_few(name: str, texts: Sequence[str], words: float) -> Kind:
    """Return the type of a column with few rows, mainly from its name."""
    name = name.rpartition(".")[2]
    if LABEL_NAMES.fullmatch(name) and words < TEXT_WORDS:
        return Kind.LABEL
    if TEXT_NAMES.fullmatch(name) or words >= 2 or _is_unspaced(texts):
        return Kind.TEXT
    if _is_id_name(name):
        return Kind.ID
    return Kind.LABEL if words <= 1 else Kind.TEXT


def _is_id_name(name: str) -> bool:
    last = name.rpartition(".")[2]
    return bool(ID_NAMES.fullmatch(last) or CAMEL_ID.fullmatch(last))


def _is_numeric_id(name: str, texts: Sequence[str], *, unique: bool) -> bool:
    if len(set(texts)) < len(texts) * UNIQUE:
        return False
    numbers = [float(text) for text in texts if is_number(text)]
    if not all(number.is_integer() for number in numbers):
        return False
    is_dense = max(numbers) - min(numbers) < 1.5 * len(numbers)
    return _is_id_name(name) or (unique and is_dense and sorted(numbers) == numbers)


def is_number(text: str) -> bool:
    """Return whether a text is a finite number, as the field kind `number` reads it."""
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def is_date(text: str) -> bool:
    """Return whether a text is a date in ISO 8601 or one of TIME_FORMATS."""
    return find_time_format([text]) is not None


def find_time_format(texts: Sequence[str]) -> str | None:
    """Return the format of dates, empty for ISO 8601; None if the texts are not dates.

    If several formats fit equally many texts, such as day or month first, the first one is chosen.
    """
    sample = texts[:200]
    if _share(sample, lambda text: len(text) <= 40 and any(map(str.isdigit, text))) < MOST:
        return None
    if _share(sample, _is_iso) >= MOST:
        return ""
    usual = [f for f in TIME_FORMATS if _share(sample[:5], partial(_has_format, f)) > 0.5]
    shares = {f: _share(texts, partial(_has_format, f)) for f in usual}
    best = max(shares, key=lambda f: shares[f], default="")
    return best if shares.get(best, 0) >= MOST else None


def other_time_format(column: Column) -> str:
    """Return a column's date format with day and month swapped; empty if it does not fit."""
    for first, second in (("%d/%m", "%m/%d"), ("%m/%d", "%d/%m")):
        other = column.time_format.replace(first, second)
        if first in column.time_format and _share(column.present, partial(_has_format, other)) == 1:
            return other
    return ""


def _is_iso(text: str) -> bool:
    if text.isdigit():
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _has_format(time_format: str, text: str) -> bool:
    try:
        datetime.strptime(text, time_format)
    except ValueError:
        return False
    return True


def _share(values: Sequence[Any], test: Callable[[Any], bool]) -> float:
    return sum(map(test, values)) / max(len(values), 1)


def _is_image(value: Any) -> bool:
    if isinstance(value, dict) and value.keys() <= {"bytes", "path"}:
        return any(_is_image(part) for part in value.values())
    if isinstance(value, bytes):
        return value.startswith(IMAGE_MAGIC) or value[:2] == b"\0\0"
    return isinstance(value, str) and value.lower().endswith(IMAGE_SUFFIXES) and "\n" not in value


def _are_texts(values: Iterable[Any]) -> bool:
    try:
        return all(
            b"\0" not in v and v.decode() is not None for v in values if isinstance(v, bytes)
        )
    except UnicodeDecodeError:
        return False


def _looks_like_list(value: Any) -> bool:
    text = value.strip() if isinstance(value, str) else ""
    return text[:1] in "[(" and text[-1:] in "])" and isinstance(parse_list(text, bare=True), list)


def _looks_like_map(value: Any) -> bool:
    return isinstance(value, str) and value.strip()[:1] == "{" and parse_map(value) is not None


def _items(value: Any) -> list[str]:
    if not isinstance(value, list):
        parsed = parse_list(as_text(value), bare=True)
        return [str(item) for item in parsed] if isinstance(parsed, list) else [as_text(value)]
    return [as_text(item) if not isinstance(item, (list, dict)) else str(item) for item in value]


def _is_unspaced(texts: Sequence[str]) -> bool:
    """Return whether texts are in a script without spaces between words."""
    joined = "".join(texts[:200])
    letters = sum(1 for character in joined if character > "\u2e80")
    return letters > 0.3 * max(len(joined), 1)
