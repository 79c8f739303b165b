"""Which examples the dataset takes, and which split takes each; decided on their hashes alone.

Two texts with one 64-bit hash count as equal: among 10^9 texts, a chance of 3 % that two differ.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.corpus.fields.label_names import LabelTable
from pipeline.corpus.prepare.scan import validation_threshold
from pipeline.corpus.prepare.work_dir import Job, Scanned, load_or_compute
from pipeline.storage.atomic import disk_errors

DROPPED, IN_TRAIN, IN_VALIDATION = range(3)
CHUNK = 1 << 20  # examples read at a time
RANGE_EXAMPLES = 1 << 25  # examples compared at a time; about 1 GB

Hashes = npt.NDArray[np.uint64]
Ids = npt.NDArray[np.int16]
Places = npt.NDArray[np.int64]


@dataclass
class SplitCounts:
    """How many examples were left out, and why."""

    label_once: int = 0
    in_validation: int = 0  # of train, because the text is in the validation file too
    duplicates: int = 0
    conflicting: int = 0  # of the duplicates, with another label than the one that is kept


def dedup_and_split(job: Job, scans: list[Scanned], labels: LabelTable | None) -> SplitCounts:
    """Write `job.choice` and `job.label_ids`, an entry an example in the order of the input."""
    return load_or_compute(
        job.work / "chosen.json", SplitCounts, lambda: _Choosing(job, scans, labels).run()
    )


class _Choosing:
    def __init__(self, job: Job, scans: list[Scanned], labels: LabelTable | None) -> None:
        self._job, self._scans, self._labels = job, scans, labels
        self._total = sum(scanned.examples for scanned in scans)
        self._validation_threshold = validation_threshold(job.settings.validation)
        self._choice = _disk_array(job.choice, np.uint8, self._total)
        self._label_ids = _disk_array(job.label_ids, np.int16, self._total)
        self._chosen = SplitCounts()

    def run(self) -> SplitCounts:
        for start, hashes, ids, held_out in self._chunks("hashes"):
            held = held_out | (hashes < self._validation_threshold)
            split = np.where(held, IN_VALIDATION, IN_TRAIN)
            self._label_ids[start : start + len(ids)] = ids
            self._choice[start : start + len(ids)] = np.where(ids < 0, DROPPED, split)
            self._chosen.label_once += int((ids < 0).sum())
        count = 1 + self._total // RANGE_EXAMPLES
        ranges = [(n * 2**64 // count, (n + 1) * 2**64 // count - 1) for n in range(count)]
        going_on = any(
            field.append_end for field in self._job.fields
        )  # what is said again belongs there
        if not isinstance(self._job.settings.validation, float) and not going_on:
            for low, high in ranges:
                self._drop_held_out(low, high)
        if self._job.settings.drop_duplicates:
            for low, high in ranges:
                self._drop_duplicates(low, high)
        self._choice.flush()
        self._label_ids.flush()
        return self._chosen

    def _chunks(self, kind: str) -> Iterator[tuple[int, Hashes, Ids, bool]]:
        """(place of the first, hashes, label ids or -1, whether held out) of the examples."""
        place = 0
        for scanned in self._scans:
            number = scanned.file.number
            for start in range(0, scanned.examples, CHUNK):
                hashes = np.fromfile(
                    self._job.scanned(number, kind), "<u8", CHUNK, offset=start * 8
                )
                ids = np.zeros(len(hashes), np.int16)
                if self._labels and self._job.label and scanned.examples:
                    codes = self._job.scanned(number, "codes")
                    ids = self._labels.ids_by_code(scanned.labels[self._job.label.name])[
                        np.fromfile(codes, "<u2", CHUNK, offset=start * 2)
                    ]
                yield place + start, hashes, ids, scanned.file.held_out
            place += scanned.examples

    def _between(self, kind: str, low: int, high: int) -> tuple[Hashes, Places]:
        """The hashes that lie in [low, high], of examples that are in a split, and their places."""
        places_of, hashes_of = [], []
        for start, chunk, _, _ in self._chunks(kind):
            choice = self._choice[start : start + len(chunk)]
            within = np.flatnonzero((chunk >= low) & (chunk <= high) & (choice != DROPPED))
            places_of.append(within + start)
            hashes_of.append(chunk[within])
        return np.concatenate(hashes_of), np.concatenate(places_of)

    def _drop_held_out(self, low: int, high: int) -> None:
        """Drop from train what the validation file holds too."""
        hashes, places = self._between("hashes", low, high)
        held = self._choice[places] == IN_VALIDATION
        straddling = ~held & np.isin(hashes, hashes[held])
        self._choice[places[straddling]] = DROPPED
        self._chosen.in_validation += int(straddling.sum())

    def _drop_duplicates(self, low: int, high: int) -> None:
        """Keep the first of equal rows, but all that are of a file for validation."""
        hashes, places = self._between(
            "target_hashes" if self._job.has_target else "hashes", low, high
        )
        if not isinstance(self._job.settings.validation, float):
            train = self._choice[places] == IN_TRAIN
            hashes, places = hashes[train], places[train]
        order = np.argsort(hashes, kind="stable")  # equal hashes stay in the order of the input
        hashes, places = hashes[order], places[order]
        again = np.zeros(len(hashes), bool)
        again[1:] = hashes[1:] == hashes[:-1]
        first = np.maximum.accumulate(np.where(again, 0, np.arange(len(hashes))))
        ids = self._label_ids[places]
        self._choice[places[again]] = DROPPED
        self._chosen.duplicates += int(again.sum())
        self._chosen.conflicting += int((ids != ids[first]).sum())


def _disk_array(path: Path, kind: type[np.generic], size: int) -> "np.memmap[Any, np.dtype[Any]]":
    """An array in a file whose room on the disk is taken at once: a full disk is an error here."""
    with disk_errors(path), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size * np.dtype(kind).itemsize)
    return np.memmap(path, kind, "r+", shape=size)
