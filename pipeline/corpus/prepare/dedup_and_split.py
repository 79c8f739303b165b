"""Deduplicate the examples and assign each to a split, by their hashes alone.

Rows from the files of a split are in that split. Fractions of the other rows are held out:
- by default by the hash of each row's first value, such as its text: the rows with the lowest
  hashes are in validation, and the rows with the highest hashes are in test. The split of a text
  depends on the text only, so a language model and a classifier hold out the same texts. The
  numbers of rows are approximate;
- with exact numbers of rows, if rows are stratified or have groups or times (see `hold_out`).

Texts with the same 64-bit hash count as identical. Among 10^9 different texts, the probability that
any two have the same hash is 3 %.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.corpus.fields.label_names import LabelTable
from pipeline.corpus.fields.split_units import TimeKind, describe_time
from pipeline.corpus.prepare.hold_out import ChosenUnits, Units, hold_out
from pipeline.corpus.prepare.tag_decision import Readings, invalid_examples
from pipeline.corpus.prepare.work_dir import (
    TEST,
    TRAIN,
    VALIDATION,
    PreparationContext,
    Scanned,
    load_or_compute,
)
from pipeline.errors import InputError
from pipeline.storage.atomic import disk_errors

DROPPED, IN_TRAIN, IN_VALIDATION, IN_TEST = range(4)
CODES = {TRAIN: IN_TRAIN, VALIDATION: IN_VALIDATION, TEST: IN_TEST}
"""Code of each split in `PreparationContext.split_codes_path`."""
CHUNK_EXAMPLES = 1 << 20
"""Maximum number of examples that are read at once."""
RANGE_EXAMPLES = 1 << 25
"""Maximum number of examples that are compared at once, which takes about 1 GB of memory."""

Hashes = npt.NDArray[np.uint64]
LabelIds = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]


@dataclass
class SplitCounts:
    """Numbers of dropped examples, by reason."""

    label_once: int = 0
    """Examples whose label no other example has."""
    in_validation: int = 0
    """Examples of the training split whose text is also in validation."""
    in_test: int = 0
    """Other examples whose text is also in test."""
    duplicates: int = 0
    conflicting: int = 0
    """Duplicates with another label than the example that is kept."""


@dataclass
class SplitResult:
    """Result of `dedup_and_split`."""

    counts: SplitCounts
    notes: list[str]
    """Lines of the summary about how the rows were held out."""


def dedup_and_split(
    context: PreparationContext,
    scans: list[Scanned],
    labels: LabelTable | None,
    tags: Sequence[Readings],
) -> SplitResult:
    """Write the files `context.split_codes_path` and `context.label_ids_path`.

    Each has one entry per example, in the order of the input. `tags` has the readings of each file.
    Raises InputError if `corpus.time` has numbers and dates, or too few groups or times.
    """
    return load_or_compute(
        context.work / context.corpus / "split_counts.json",
        SplitResult,
        lambda: _SplitAssignment(context, scans, labels, tags).run(),
    )


class _SplitAssignment:
    """Assigns each example of the corpus to a split, or drops it."""

    def __init__(
        self,
        context: PreparationContext,
        scans: list[Scanned],
        labels: LabelTable | None,
        tags: Sequence[Readings],
    ) -> None:
        self._context, self._scans, self._labels, self._tags = context, scans, labels, tags
        self._total = sum(scanned.examples for scanned in scans)
        self._unit_kind = "hashes" if context.checker.units is None else "units"
        self._split_codes = _disk_array(context.split_codes_path, np.uint8, self._total)
        self._label_ids = _disk_array(context.label_ids_path, np.int32, self._total)
        self._counts, self._notes = SplitCounts(), list[str]()
        range_count = 1 + self._total // RANGE_EXAMPLES
        bounds = [number * 2**64 // range_count for number in range(range_count + 1)]
        self._ranges = [(low, end - 1) for low, end in pairwise(bounds)]

    def run(self) -> SplitResult:
        self._assign()
        self._drop_invalid_tags()
        if self._context.settings.held_out_files:
            self._drop_leaks()
        if self._context.settings.drop_duplicates:
            for low, high in self._ranges:
                self._drop_duplicates(low, high)
        if self._context.splits_units:
            self._hold_out_units()
            if self._unit_kind == "units":
                self._drop_leaks()
        self._split_codes.flush()
        self._label_ids.flush()
        return SplitResult(self._counts, self._notes)

    def _assign(self) -> None:
        """Assign all examples to splits by their files and hashes; drop those whose label occurs
        once."""
        low, high = self._context.hash_bounds
        for start, hashes, label_ids, split in self._chunks("hashes"):
            codes = np.full(len(hashes), CODES[split or TRAIN])
            if not split:
                codes[hashes < low] = IN_VALIDATION
                codes[hashes > high - 1] = IN_TEST
            label_once = label_ids < 0
            chunk = slice(start, start + len(hashes))
            self._label_ids[chunk] = label_ids
            self._split_codes[chunk] = np.where(label_once, DROPPED, codes)
            self._counts.label_once += int(label_once.sum())

    def _drop_invalid_tags(self) -> None:
        """Drop the examples whose tags are not valid; they count as skipped rows."""
        start = 0
        for scanned, readings in zip(self._scans, self._tags, strict=True):
            stop = start + scanned.examples
            invalid = invalid_examples(self._context, scanned, readings)
            if invalid is not None:
                self._split_codes[start:stop][invalid] = DROPPED
            start = stop

    def _hold_out_units(self) -> None:
        """Hold out fractions of the examples that are not dropped, in whole units."""
        settings = self._context.settings
        self._check_time_kinds()
        strata = len(self._labels.names) if self._context.stratifies and self._labels else 1
        # The latest times are for test. Otherwise, validation must not depend on corpus.test.
        order = (TEST, VALIDATION) if settings.time else (VALIDATION, TEST)
        given = settings.held_out_fractions
        fractions = {split: given[split] for split in order if split in given}
        chosen = hold_out(self._units, fractions, strata, in_order=bool(settings.time))
        total = sum(len(units.numbers) for units in self._units())
        self._check_choice(chosen, total)
        for low, high in self._ranges:
            units, indices = self._divisible(low, high)
            for split, choice in chosen.items():
                held_out = np.isin(units, choice.all_numbers)
                self._split_codes[indices[held_out]] = CODES[split]
        self._notes = self._describe(chosen, total)

    def _divisible(self, low: int, high: int) -> tuple[Hashes, Indices]:
        """Return the units in [low, high] of the examples from which fractions are held out, and
        the indices of these examples."""
        units, indices = self._in_range(self._unit_kind, low, high)
        in_train = self._split_codes[indices] == IN_TRAIN
        return units[in_train], indices[in_train]

    def _units(self) -> Iterator[Units]:
        """Yield the units of all ranges."""
        for low, high in self._ranges:
            numbers, indices = self._divisible(low, high)
            unique, first, rows = np.unique(numbers, return_index=True, return_counts=True)
            strata = np.zeros(len(unique), np.int64)
            if self._context.stratifies:
                strata = self._label_ids[indices[first]].astype(np.int64)
            yield Units(unique, rows, strata)

    def _check_time_kinds(self) -> None:
        """Raise InputError if the times are numbers in some rows and dates in others."""
        places: dict[TimeKind, str] = {}
        for scanned in self._scans:
            places = scanned.time_kinds | places
        if len(places) > 1:
            found = " and ".join(f"{kind} (first {place})" for kind, place in places.items())
            raise InputError(
                f"corpus.time={self._context.settings.time}: has {found}, which cannot be "
                "compared; use one format for all rows, or set corpus.time_format"
            )
        self._time_kind = next(iter(places), None)

    def _check_choice(self, chosen: Mapping[str, ChosenUnits], total: int) -> None:
        """Raise InputError if a split has no unit."""
        settings = self._context.settings
        if all(choice.count for choice in chosen.values()) or self._unit_kind == "hashes":
            return
        key = "time" if settings.time else "group"
        splits = [TRAIN, *chosen]
        raise InputError(
            f"corpus.{key}={getattr(settings, key)}: has {total} different value(s) in the usable "
            f"rows, too few for {' and '.join(splits)}; set another column, or remove it"
        )

    def _describe(self, chosen: Mapping[str, ChosenUnits], total: int) -> list[str]:
        """Return lines about how the rows were held out."""
        settings = self._context.settings
        if settings.time and self._time_kind:
            return [
                f"  {split}: held out the latest rows, from {settings.time} "
                f"{describe_time(choice.last, self._time_kind)} on"
                for split, choice in chosen.items()
            ]
        if settings.group:
            counts = {TRAIN: total - sum(choice.count for choice in chosen.values())}
            counts |= {split: choice.count for split, choice in chosen.items()}
            numbers = ", ".join(f"{count:,} in {split}" for split, count in counts.items())
            return [f"  {settings.group}: {total:,} groups, {numbers}"]
        return [f"  held out for {' and '.join(chosen)}: the same share of each label"]

    def _chunks(self, kind: str) -> Iterator[tuple[int, Hashes, LabelIds, str]]:
        """Yield (number of the first example, hashes, label ids, split of the file or an empty
        string) of each chunk.

        `kind` is a kind of hashes, as in `PreparationContext.scan_path`. The id of a label that
        occurs once is -1.
        """
        examples_before = 0
        for scanned in self._scans:
            key = scanned.group.key
            for start in range(0, scanned.examples, CHUNK_EXAMPLES):
                path = self._context.scan_path(key, kind)
                hashes = np.fromfile(path, "<u8", CHUNK_EXAMPLES, offset=start * 8)
                label_ids = np.zeros(len(hashes), np.int32)
                if self._labels and self._context.label:
                    path = self._context.scan_path(key, "codes")
                    codes = np.fromfile(path, "<u4", CHUNK_EXAMPLES, offset=start * 4)
                    ids_by_code = self._labels.ids_by_code(scanned.labels[self._context.label.name])
                    label_ids = ids_by_code[codes]
                yield examples_before + start, hashes, label_ids, scanned.group.split
            examples_before += scanned.examples

    def _in_range(self, kind: str, low: int, high: int) -> tuple[Hashes, Indices]:
        """Return the hashes in [low, high] of examples that are not dropped, and their numbers."""
        chunks_of_hashes, chunks_of_indices = [], []
        for start, hashes, _, _ in self._chunks(kind):
            codes = self._split_codes[start : start + len(hashes)]
            selected = np.flatnonzero((hashes >= low) & (hashes <= high) & (codes != DROPPED))
            chunks_of_hashes.append(hashes[selected])
            chunks_of_indices.append(selected + start)
        return np.concatenate(chunks_of_hashes), np.concatenate(chunks_of_indices)

    def _drop_leaks(self) -> None:
        """Drop examples whose text is also in test, and training examples whose text is also in
        validation.

        In language modeling, a line may occur again in another split, as part of its text.
        """
        if any(field.append_end for field in self._context.fields):
            return
        for low, high in self._ranges:
            hashes, indices = self._in_range("hashes", low, high)
            codes = self._split_codes[indices]
            in_test = (codes != IN_TEST) & np.isin(hashes, hashes[codes == IN_TEST])
            in_validation = (codes == IN_TRAIN) & np.isin(hashes, hashes[codes == IN_VALIDATION])
            self._split_codes[indices[in_test | in_validation]] = DROPPED
            self._counts.in_test += int(in_test.sum())
            self._counts.in_validation += int((in_validation & ~in_test).sum())

    def _drop_duplicates(self, low: int, high: int) -> None:
        """Keep the first of identical examples. The files of a split keep all of their examples.

        Identical examples have the same inputs and targets.
        """
        kind = "whole_hashes" if self._context.has_further_fields else "hashes"
        hashes, indices = self._in_range(kind, low, high)
        for split in self._context.settings.held_out_files:
            others = self._split_codes[indices] != CODES[split]
            hashes, indices = hashes[others], indices[others]
        order = np.argsort(hashes, kind="stable")  # identical ones stay in the order of the input
        hashes, indices = hashes[order], indices[order]
        duplicate = np.zeros(len(hashes), bool)
        duplicate[1:] = hashes[1:] == hashes[:-1]
        first = np.maximum.accumulate(np.where(duplicate, 0, np.arange(len(hashes))))
        label_ids = self._label_ids[indices]
        self._split_codes[indices[duplicate]] = DROPPED
        self._counts.duplicates += int(duplicate.sum())
        self._counts.conflicting += int((label_ids != label_ids[first]).sum())


def _disk_array(path: Path, dtype: type[np.generic], size: int) -> "np.memmap[Any, np.dtype[Any]]":
    """Create a memory-mapped array.

    Its disk space is allocated at once. Raises DatasetError if the disk is full; without the
    allocation, a later write to the array would kill the process.
    """
    with disk_errors(path), path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size * np.dtype(dtype).itemsize)
    return np.memmap(path, dtype, "r+", shape=size)
