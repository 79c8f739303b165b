"""Deduplicate the examples and assign each to a split, by their hashes alone.

Texts with the same 64-bit hash count as identical. Among 10^9 different texts, the probability that
any two have the same hash is 3 %.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.corpus.fields.label_names import LabelTable
from pipeline.corpus.prepare.scan import validation_threshold
from pipeline.corpus.prepare.tag_decision import Readings, invalid_examples
from pipeline.corpus.prepare.work_dir import PreparationContext, Scanned, load_or_compute
from pipeline.storage.atomic import disk_errors

DROPPED, IN_TRAIN, IN_VALIDATION = range(3)
CHUNK_EXAMPLES = 1 << 20
"""Examples that are read at once."""
RANGE_EXAMPLES = 1 << 25
"""Examples that are compared at once, which takes about 1 GB of memory."""

Hashes = npt.NDArray[np.uint64]
LabelIds = npt.NDArray[np.int32]
Indices = npt.NDArray[np.int64]


@dataclass
class SplitCounts:
    """Numbers of dropped examples, by reason."""

    label_once: int = 0
    """Examples whose label no other example has."""
    in_validation: int = 0
    """Training examples whose text is in the validation file too."""
    duplicates: int = 0
    conflicting: int = 0
    """Duplicates with another label than the example that is kept."""


def dedup_and_split(
    context: PreparationContext,
    scans: list[Scanned],
    labels: LabelTable | None,
    tags: Sequence[Readings],
) -> SplitCounts:
    """Write the files `context.split_codes_path` and `context.label_ids_path`.

    Each has one entry per example, in the order of the input. `tags` has the readings of each file.
    """
    return load_or_compute(
        context.work / context.corpus / "split_counts.json",
        SplitCounts,
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
        self._validation_threshold = validation_threshold(context.settings.validation)
        self._split_codes = _disk_array(context.split_codes_path, np.uint8, self._total)
        self._label_ids = _disk_array(context.label_ids_path, np.int32, self._total)
        self._counts = SplitCounts()

    def run(self) -> SplitCounts:
        self._assign()
        self._drop_invalid_tags()
        range_count = 1 + self._total // RANGE_EXAMPLES
        bounds = [number * 2**64 // range_count for number in range(range_count + 1)]
        hash_ranges = [(low, end - 1) for low, end in pairwise(bounds)]
        # In language modeling, a line may recur in the running text of another split.
        repeats_allowed = any(field.append_end for field in self._context.fields)
        if not isinstance(self._context.settings.validation, float) and not repeats_allowed:
            for low, high in hash_ranges:
                self._drop_validation_texts_from_train(low, high)
        if self._context.settings.drop_duplicates:
            for low, high in hash_ranges:
                self._drop_duplicates(low, high)
        self._split_codes.flush()
        self._label_ids.flush()
        return self._counts

    def _assign(self) -> None:
        """Assign all examples to splits, except those whose label occurs once."""
        for start, hashes, label_ids, held_out in self._chunks("hashes"):
            in_validation = held_out | (hashes < self._validation_threshold)
            codes = np.where(in_validation, IN_VALIDATION, IN_TRAIN)
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

    def _chunks(self, kind: str) -> Iterator[tuple[int, Hashes, LabelIds, bool]]:
        """Yield (number of the first example, hashes, label ids, whether held out) of each chunk.

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
                yield examples_before + start, hashes, label_ids, scanned.group.held_out
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

    def _drop_validation_texts_from_train(self, low: int, high: int) -> None:
        """Drop training examples whose text is in validation too."""
        hashes, indices = self._in_range("hashes", low, high)
        in_validation = self._split_codes[indices] == IN_VALIDATION
        leaked = ~in_validation & np.isin(hashes, hashes[in_validation])
        self._split_codes[indices[leaked]] = DROPPED
        self._counts.in_validation += int(leaked.sum())

    def _drop_duplicates(self, low: int, high: int) -> None:
        """Keep the first of identical examples. A validation file keeps all of its examples.

        Identical examples have the same inputs and targets.
        """
        kind = "whole_hashes" if self._context.has_further_fields else "hashes"
        hashes, indices = self._in_range(kind, low, high)
        if not isinstance(self._context.settings.validation, float):
            in_train = self._split_codes[indices] == IN_TRAIN
            hashes, indices = hashes[in_train], indices[in_train]
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
