"""From the labels and tags that stand in the input to the indices 0, 1, 2, ... of their names."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.prepare.work_dir import Scanned
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import Tally
from pipeline.errors import InputError

MAX_LABELS = 10_000


@dataclass(frozen=True)
class LabelTable:
    """The names, and what each label of the input becomes; None: its rows are skipped."""

    names: list[str]
    ids: dict[str, int | None]
    once: dict[str, str]  # label -> file:row, of those skipped because they stand there once
    counts: list[int]  # usable rows of each name

    def of(self, scanned: Scanned, field: str) -> npt.NDArray[np.int16]:
        """By the codes of one file: the index of the label's name, or -1."""
        ids = (self.ids[label] for label in scanned.labels[field])
        return np.array([-1 if index is None else index for index in ids], np.int16)


def name_labels(settings: CorpusSettings, scans: list[Scanned], field: FieldSpec) -> LabelTable:
    """Raises InputError for an unknown label, for fewer than two and for far too many."""
    total: dict[str, Tally] = {}
    first: dict[str, str] = {}
    for scanned in scans:
        for label, tally in scanned.labels.get(field.name, {}).items():
            first.setdefault(label, f"{scanned.file.name}:{tally.row}")
            total.setdefault(label, Tally(0, tally.row)).count += tally.count
    if len(total) > MAX_LABELS:
        raise InputError(
            f"corpus.label={settings.label!r}: {len(total):,} different labels stand in the input, "
            f"more than {MAX_LABELS:,}; name the right column"
        )
    ids: dict[str, int | None]
    if settings.label_names:
        names, once = settings.label_names, {}
        ids = {label: label_index(label, names, first[label]) for label in total}
    else:
        once = {label: first[label] for label, tally in total.items() if tally.count == 1}
        if field.kind != "label":  # a row has several, and keeps those that stand there once
            once = {}
        names = _in_order([label for label in total if label not in once])
        ids = dict.fromkeys(once) | {name: index for index, name in enumerate(names)}
    counts = [0] * len(names)
    for label, index in ids.items():
        if index is not None:
            counts[index] += total[label].count
    _check_two(settings, names, counts, once)
    return LabelTable(names, ids, once, counts)


class NameIndex(dict[str, int]):
    """The indices of some names, and of what stands for one (see `label_index`)."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__({name: index for index, name in enumerate(names)})
        self._names = list(names)

    def check(self, name: str, where: str) -> None:
        """Raises InputError if what stands at `where` is no name and stands for none."""
        if name not in self:
            self[name] = label_index(name, self._names, where)

    def __missing__(self, name: str) -> int:
        return label_index(name, self._names, "a label")


def label_index(label: str, names: list[str], where: str) -> int:
    """The index of a label that is one of the names, or an index of them already, which it can
    only be where no name is a number itself."""
    if label in names:
        return names.index(label)
    numbered = any(name.lstrip("-").isdigit() for name in names)
    if not numbered and label.isascii() and label.isdigit() and int(label) < len(names):
        return int(label)
    raise InputError(
        f"{where}: label {label!r} is none of corpus.label_names ({', '.join(names)}) nor an index "
        f"below {len(names)}; add it there, or leave rows out by corpus.filters"
    )


def _in_order(labels: list[str]) -> list[str]:
    """Sorted: as numbers if all are whole numbers, else as strings."""
    try:
        return sorted(labels, key=lambda label: (int(label), label))
    except ValueError:
        return sorted(labels)


def _check_two(
    settings: CorpusSettings, names: list[str], counts: list[int], once: dict[str, str]
) -> None:
    present = [name for name, count in zip(names, counts, strict=True) if count]
    if len(present) >= 2:
        return
    found = f"only the label {present[0]!r}" if present else "no label twice"
    hint = f" besides {len(once):,} that stand there once each" if once else ""
    raise InputError(
        f"corpus.label={settings.label!r}: the usable rows hold {found}{hint}; there is nothing to "
        "tell apart; name the right column, or give more rows"
    )
