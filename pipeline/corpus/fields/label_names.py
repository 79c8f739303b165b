"""Label names: map the labels and tags of the input to indices 0, 1, 2, ..."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.settings import LabelSettings
from pipeline.corpus.skip_reason import Tally
from pipeline.errors import InputError

MAX_LABELS = 10_000

LabelTallies = Mapping[str, Tally]
"""Label -> number of rows with the label in a group of files, and the first of them."""


@dataclass(frozen=True)
class LabelTable:
    """The label names of a field, and the mapping from the input's labels to their indices."""

    names: list[str]
    ids: dict[str, int | None]  # label -> index of its name; None if its rows are skipped
    once: dict[str, str]  # label -> place of its row, for labels in only one row, which is skipped
    counts: list[int]  # usable rows of each name

    def ids_by_code(self, labels: Iterable[str]) -> npt.NDArray[np.int16]:
        """Return the name index of each of one file's labels, in order; -1 for skipped labels.

        The result maps the label codes that scanning assigned in the file to name indices.
        """
        ids = (self.ids[label] for label in labels)
        return np.array([-1 if index is None else index for index in ids], np.int16)


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
            f"more than {MAX_LABELS:,}; name the right column"
        )
    ids: dict[str, int | None]
    if settings.label_names:
        names, once = settings.label_names, {}
        ids = {label: label_index(label, names, first[label]) for label in total}
    else:
        once = {label: first[label] for label, tally in total.items() if tally.count == 1}
        if (
            not field.kind_class.has_one_name
        ):  # rows have several labels; a rare one does not rule out a row
            once = {}
        names = _sort_labels([label for label in total if label not in once])
        ids = dict.fromkeys(once) | {name: index for index, name in enumerate(names)}
    counts = [0] * len(names)
    for label, index in ids.items():
        if index is not None:
            counts[index] += total[label].count
    _check_two_labels(settings, names, counts, once)
    return LabelTable(names, ids, once, counts)


class NameIndex(dict[str, int]):
    """Name -> index. Also accepts an index as a string (see `label_index`)."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__({name: index for index, name in enumerate(names)})
        self._names = list(names)

    def check(self, name: str, where: str) -> None:
        """Raises InputError if `name`, which is in the input at `where`, is unknown."""
        if name not in self:
            self[name] = label_index(name, self._names, where)

    def __missing__(self, name: str) -> int:
        return label_index(name, self._names, "a label")


def label_index(label: str, names: list[str], where: str) -> int:
    """Return the index of a label: the position of its name, or the label itself if it is an index.

    A label can be an index only if no name is a number. Raises InputError, which begins with the
    label's place `where`, if the label is neither.
    """
    if label in names:
        return names.index(label)
    numeric_names = any(name.lstrip("-").isdigit() for name in names)
    if not numeric_names and label.isascii() and label.isdigit() and int(label) < len(names):
        return int(label)
    raise InputError(
        f"{where}: label {label!r} is none of corpus.label_names ({', '.join(names)}) nor an index "
        f"below {len(names)}; add it there, or exclude its rows with corpus.filters"
    )


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
        f"corpus.label={settings.label!r}: the usable rows hold {labels}{hint}; there is nothing "
        "to learn; name the right column, or add rows"
    )
