"""Label names: map the labels and tags of the input to indices 0, 1, 2, ...

A label may have several spellings, such as 1 and 1.0. They are kept as written until the whole
input has been read. Then a name is chosen for each label.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from unicodedata import normalize

import numpy as np
import numpy.typing as npt

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import LabelSettings
from pipeline.corpus.skip_reason import Tally
from pipeline.errors import InputError

MAX_LABELS = 100_000
MAX_LISTED = 10
"""Maximum number of names in a message."""
MAX_DIGITS = 18
"""Maximum number of digits of a label that may be an index."""
WHOLE_NUMBER = re.compile(r"(-?\d+)\.0*")
BOOLEANS = ("true", "false")
OTHER_SEPARATORS = ("|", ";", ",", "/", "+", "&", " ")

logger = logging.getLogger(__name__)

LabelTallies = Mapping[str, Tally]
"""Label -> number of rows with the label in a group of files, and the first of them."""


@lru_cache(1 << 16)
def label_key(label: str) -> str:
    """Return the key of a label, which is the same for all of its spellings.

    The key is the label in Unicode NFC; the key of 1.0 and 1. is 1, and that of True is true.

    >>> label_key("2.00"), label_key("TRUE"), label_key("Fine")
    ('2', 'true', 'Fine')
    """
    if match := WHOLE_NUMBER.fullmatch(label):
        return "0" if match[1] == "-0" else match[1]
    lower = label.lower()
    return lower if lower in BOOLEANS else normalize("NFC", label)


@dataclass(frozen=True)
class LabelTable:
    """The label names of a field, and the mapping from the input's labels to their indices."""

    names: list[str]
    ids: dict[str, int | None]  # label -> index of its name; None if its rows are skipped
    once: dict[str, str]  # label -> place of its row, for labels in only one row, which is skipped
    counts: list[int]  # usable rows of each name
    notes: list[str] = field(default_factory=list)
    """Lines for the summary: spellings that count as one label."""
    warnings: list[str] = field(default_factory=list)
    """Lines about names that may be wrong."""

    def ids_by_code(self, labels: Iterable[str]) -> npt.NDArray[np.int32]:
        """Return the name index of each of one file's labels, in order; -1 for skipped labels.

        The result maps the label codes that scanning assigned in the file to name indices.
        """
        ids = (self.ids[label] for label in labels)
        return np.array([-1 if index is None else index for index in ids], np.int32)


class NameIndex(dict[str, int]):
    """Label -> index of its name. A label is looked up as, in this order:

    - a key of the map `corpus.label_names`
    - a name
    - another spelling of one of these (see `label_key`), unless it fits two names
    - the index of a name, starting at `corpus.label_base`, if no name is a number
    """

    def __init__(self, names: Sequence[str], settings: object = None) -> None:
        """`settings` is the section `corpus`."""
        self._names = list(names)
        super().__init__({name: index for index, name in enumerate(self._names)})
        self._keys = _unique_keys(self)
        self._base, self._may_be_index = 0, not any(map(is_number, self._names))
        self._are_given = True
        if isinstance(settings, LabelSettings):
            self._are_given = bool(settings.names)
            self._base = settings.label_base
            if isinstance(settings.label_names, dict):
                named = {v: self[n] for v, n in settings.label_names.items() if n in self}
                self.update(named)
                self._keys |= _unique_keys(named)
                self._may_be_index = False

    def find(self, label: str) -> int | None:
        """Return the index of a label, or None if it is unknown."""
        if label in self:
            return self[label]
        key = label_key(label)
        index = self._keys.get(key)
        if index is None and self._may_be_index and is_number(key):
            number = int(key) - self._base
            index = number if 0 <= number < len(self._names) else None
            if index is not None and not self._are_given:
                self._warn(label, self._names[index])
        if index is not None:
            self[label] = index  # found at once the next time
        return index

    def _warn(self, label: str, name: str) -> None:
        """Log, once, that numbers are read as indices of names whose order no setting gives."""
        self._are_given = True
        logger.warning(
            "label %r is read as %r, the name with this index in %s; if that is wrong, give a name "
            "for each value in a map, such as corpus.label_names={%s: %s}",
            label,
            name,
            shorten(self._names),
            label,
            name,
        )

    def check(self, label: str, where: str) -> None:
        """Raises InputError if a label, which is in the input at `where`, is unknown."""
        if self.find(label) is None:
            raise InputError(self.unknown(label, where))

    def __missing__(self, label: str) -> int:
        self.check(label, "a label")
        return self[label]

    def unknown(self, label: str, where: str, numbers: Sequence[int] = ()) -> str:
        """Return the error line for an unknown label. `numbers` are all labels that are numbers."""
        line = f"{where}: label {label!r} is not in corpus.label_names ({shorten(self._names)})"
        if not self._may_be_index:
            return f"{line}; add it there, or exclude its rows with corpus.filters"
        count, base = len(self._names), self._base
        line += f" and is not an index {base}..{base + count - 1}"
        low, high = (min(numbers), max(numbers)) if numbers else (0, -1)
        if low not in (base, -1) and high - low == count - 1:
            return f"{line}; the labels are {low}..{high}: set corpus.label_base={low}"
        return (
            f"{line}; add it there, set a map (corpus.label_names={{VALUE: NAME}}), or exclude its "
            "rows with corpus.filters"
        )


def name_labels(
    settings: LabelSettings, groups: Iterable[LabelTallies], field: FieldSpec
) -> LabelTable:
    """Choose a field's label names and map all labels of the input to them.

    `groups` has the label tallies of each group of files. Raises InputError for an unknown label,
    for fewer than two labels, and for more than MAX_LABELS labels.
    """
    total: dict[str, Tally] = {}
    first: dict[str, str] = {}
    for tallies in groups:
        for label, tally in tallies.items():
            first.setdefault(label, tally.place)
            total.setdefault(label, Tally(0, tally.place)).count += tally.count
    if len(total) > MAX_LABELS:
        raise InputError(
            f"corpus.label={settings.label!r}: the input has {len(total):,} different labels, "
            f"more than {MAX_LABELS:,}; set corpus.label to the column with the labels"
        )
    ids: dict[str, int | None]
    once: dict[str, str] = {}
    if settings.names:
        names, ids = settings.names, _given_ids(settings, total, first)
    else:
        spellings: dict[str, list[str]] = {}
        for label in total:
            spellings.setdefault(label_key(label), []).append(label)
        if len(spellings) > MAX_LABELS:
            raise InputError(
                f"corpus.label={settings.label!r}: the input has {len(spellings):,} different "
                f"labels, more than {MAX_LABELS:,}; set corpus.label to the column with the labels"
            )
        # With several labels per row, a row is not skipped because one of them is rare.
        if field.kind_class.has_one_name:
            single = [labels[0] for labels in spellings.values() if len(labels) == 1]
            once = {label: first[label] for label in single if total[label].count == 1}
        by_name = {
            _name(key, labels): labels for key, labels in spellings.items() if labels[0] not in once
        }
        names = _sort_labels(list(by_name))
        ids = dict.fromkeys(once)
        ids |= {label: index for index, name in enumerate(names) for label in by_name[name]}
    counts = [0] * len(names)
    for label, index in ids.items():
        if index is not None:
            counts[index] += total[label].count
    _check_two_labels(settings, names, counts, once)
    notes = list(_notes(names, ids, total, first))
    warnings = list(_warnings(settings, names, counts, ids))
    if separator := getattr(settings, "label_separator", ""):
        warnings += _undivided(separator, names)
    if field.kind_class.by_word and not settings.label_names and all(map(is_number, names)):
        warnings.append(
            f"corpus.label={settings.label!r}: the tags are numbers, so entities are not scored; "
            "list their names in corpus.label_names"
        )
    return LabelTable(names, ids, once, counts, notes, warnings)


def shorten(names: Sequence[str], limit: int = MAX_LISTED) -> str:
    """Join the first names for a message, with the number of names that are left out."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def _given_ids(
    settings: LabelSettings, total: Mapping[str, Tally], first: Mapping[str, str]
) -> dict[str, int | None]:
    """Return the indices of all labels. Raises InputError if one is unknown."""
    index = NameIndex(settings.names, settings)
    ids = {label: index.find(label) for label in total}
    if unknown := next((label for label, found in ids.items() if found is None), None):
        keys = [label_key(label) for label in total]
        numbers = [int(key) for key in keys if is_number(key)]
        raise InputError(index.unknown(unknown, first[unknown], numbers))
    return ids


def _unique_keys(ids: Mapping[str, int]) -> dict[str, int]:
    """Return the index by key, without keys that fit several indices."""
    keys: dict[str, set[int]] = {}
    for label, index in ids.items():
        keys.setdefault(label_key(label), set()).add(index)
    return {key: indices.pop() for key, indices in keys.items() if len(indices) == 1}


def is_number(label: str) -> bool:
    """Return whether a label may be the index of a name."""
    digits = label.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS


def _name(key: str, spellings: Sequence[str]) -> str:
    """Return the name of a label: the label as written, or its key if it has several spellings."""
    composed = {normalize("NFC", label) for label in spellings}
    return composed.pop() if len(composed) == 1 else key


def _sort_labels(labels: list[str]) -> list[str]:
    """Sort labels: as numbers if all are integers, else as strings."""
    try:
        return sorted(labels, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(labels)


def _check_two_labels(
    settings: LabelSettings, names: list[str], counts: list[int], once: dict[str, str]
) -> None:
    """Raises InputError if the usable rows have fewer than two labels."""
    present = [name for name, count in zip(names, counts, strict=True) if count]
    if len(present) >= 2:
        return
    labels = f"only the label {present[0]!r}" if present else "no label twice"
    hint = f" besides {len(once):,} that occur once each" if once else ""
    raise InputError(
        f"corpus.label={settings.label!r}: the usable rows have {labels}{hint}; there is nothing "
        "to learn; set corpus.label to the column with the labels, or add rows"
    )


def _notes(
    names: Sequence[str],
    ids: Mapping[str, int | None],
    total: Mapping[str, Tally],
    first: Mapping[str, str],
) -> Iterable[str]:
    """Yield a line for each label with several spellings, and one for labels not in NFC."""
    spellings: dict[int, list[str]] = {}
    changed = {label: place for label, place in first.items() if normalize("NFC", label) != label}
    for label, index in ids.items():
        if index is not None and label not in changed:
            spellings.setdefault(index, []).append(label)
    several = {names[n]: labels for n, labels in spellings.items() if len(labels) > 1}
    for name, labels in list(several.items())[:MAX_LISTED]:
        written = ", ".join(f"{label!r} {total[label].count:,}" for label in labels)
        yield f"one label {name!r} is written in {len(labels)} ways: {written}"
    if changed:
        count = sum(total[label].count for label in changed)
        label, place = next(iter(changed.items()))
        yield f"{count:,} label(s) were converted to Unicode NFC, first {label!r} at {place}"


def _undivided(separator: str, names: Sequence[str]) -> Iterable[str]:
    """Yield a line if names look like several labels that are joined by another separator.

    Each of these is a name itself, or in several joined names. Words are often in several names, so
    each word has to be a name.
    """
    for other in OTHER_SEPARATORS:
        if other == separator:
            continue
        joined = [name for name in names if other in name]
        parts = [[part.strip() for part in name.split(other)] for name in joined]
        uses = Counter(chain.from_iterable(map(set, parts)))
        known = {*names, *(part for part, count in uses.items() if count > 1 and other != " ")}
        composed = [
            name for name, labels in zip(joined, parts, strict=True) if known.issuperset(labels)
        ]
        if composed and 2 * len(composed) > len(joined):
            yield (
                f"corpus.label_separator={separator!r}: the label {composed[0]!r} seems to consist "
                f"of other labels; if {other!r} separates labels, set "
                f"corpus.label_separator={other!r}"
            )
            return


def _warnings(
    settings: LabelSettings, names: Sequence[str], counts: Sequence[int], ids: Mapping[str, object]
) -> Iterable[str]:
    """Yield a line if names have no rows."""
    unused = [name for name, count in zip(names, counts, strict=True) if not count]
    if not unused:
        return
    hint = ""
    numbers = [int(key) for key in map(label_key, ids) if is_number(key)]
    base = settings.label_base
    if unused[0] == names[0] and numbers and len(numbers) == len(ids) and min(numbers) == base + 1:
        hint = (
            f"; the labels are {min(numbers)}..{max(numbers)}: if {names[0]} is {base + 1}, set "
            f"corpus.label_base={base + 1}"
        )
    yield f"corpus.label_names: no row has the label {shorten(unused)}{hint}"
