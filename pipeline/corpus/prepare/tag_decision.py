"""Determines the tag schemes of a corpus after scanning, and applies them to its results."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pipeline.corpus.fields.base import FieldKind
from pipeline.corpus.fields.tag_schemes import (
    BITS,
    TagCounts,
    TagReading,
    canonical_names,
    decide,
    split_tag,
)
from pipeline.corpus.prepare.work_dir import PreparationContext, Scanned
from pipeline.corpus.settings import LabelSettings
from pipeline.corpus.skip_reason import bad_row_error
from pipeline.errors import InputError

SIMILAR_TAG = re.compile(r"[BIESLUMW][-_:].+|.+[-_:][BIESLUMW]", re.IGNORECASE)
"""A tag with a prefix or suffix in another form than in the schemes, such as b-X or X_B."""
MAX_FILES = 5
"""Maximum number of files with their own scheme in the summary."""


def tag_fields(fields: Sequence[FieldKind]) -> dict[int, str]:
    """Return the name of each tag field, by its position."""
    return {n: kind.field.name for n, kind in enumerate(fields) if kind.has_scheme}


Readings = Mapping[int, TagReading]
"""The reading of each tag field, by the field's position."""


def decide_tags(
    context: PreparationContext, scans: Sequence[Scanned]
) -> tuple[list[Scanned], list[Readings]]:
    """Determine the readings of the tags of all files.

    Return the results of scanning with converted tags, in which invalid rows count as skipped, and
    the readings for each result. Raises InputError for an invalid row if `corpus.on_bad_row` is
    "stop".
    """
    label_names = getattr(context.settings, "names", [])
    results, readings = list(scans), [dict[int, TagReading]() for _ in scans]
    for position, name in tag_fields(context.checker.fields).items():
        counts = [scanned.tags.get(name, TagCounts()) for scanned in scans]
        for number, reading in enumerate(decide(counts, label_names)):
            readings[number][position] = reading
            if context.settings.on_bad_row == "stop":
                _check(counts[number], reading)
            results[number] = _apply(results[number], name, counts[number], reading)
    return results, list(readings)


def invalid_examples(
    context: PreparationContext, scanned: Scanned, readings: Readings
) -> npt.NDArray[np.bool_] | None:
    """Return a mask of the invalid examples of a file; None if no tag can be invalid."""
    schemes = [reading.scheme for reading in readings.values()]
    if not any(schemes):
        return None
    path = context.scan_path(scanned.group.key, "tag_schemes")
    bits = np.fromfile(path, np.uint8).reshape(-1, len(schemes))
    wanted = np.array([BITS.get(scheme, 0) for scheme in schemes], np.uint8)
    return np.any((bits & wanted) != wanted, axis=1)


def with_canonical_names(settings: LabelSettings, kind: type[FieldKind]) -> LabelSettings:
    """Return settings whose `label_names` are the names of the converted tags."""
    if not kind.has_scheme:
        return settings
    return settings.model_copy(update={"label_names": canonical_names(settings.names)})


def describe(
    context: PreparationContext, scans: Sequence[Scanned], readings: Sequence[Readings]
) -> Iterator[str]:
    """Yield lines of the summary: the scheme of each tag field, and files with another scheme."""
    for position, name in tag_fields(context.checker.fields).items():
        own = [reading[position] for reading in readings]
        common = max(own, key=own.count)
        if common.scheme:
            yield f"  tag scheme: {common.describe()}"
        elif prefixed := _prefixed(scanned.tags.get(name) for scanned in scans):
            yield (
                f"  tag scheme: none; tags are plain names, although some have a prefix, such as "
                f"{prefixed}"
            )
        others = [
            f"  tag scheme of {scanned.group.name}: {reading.describe()}"
            for scanned, reading in zip(scans, own, strict=True)
            if reading != common
        ]
        yield from others[:MAX_FILES]
        if len(others) > MAX_FILES:
            yield f"  and {len(others) - MAX_FILES} more files with a scheme of their own"


def _check(counts: TagCounts, reading: TagReading) -> None:
    """Raise InputError if a row is not valid in the scheme of a reading."""
    for reason, tally in counts.skips.get(reading.scheme, {}).items():
        raise InputError(bad_row_error(tally.place, reason, tally.value))


def _apply(scanned: Scanned, name: str, counts: TagCounts, reading: TagReading) -> Scanned:
    """Return the result of scanning a file with its tags converted."""
    if not reading.scheme:
        return scanned
    labels = scanned.labels | {name: counts.names_as(reading)}
    skips = dict(scanned.skips)
    for reason, tally in counts.skips[reading.scheme].items():
        before = skips.get(reason, replace(tally, count=0))
        skips[reason] = replace(before, count=before.count + tally.count)
    return replace(scanned, labels=labels, skips=skips)


def _prefixed(files: Iterable[TagCounts | None]) -> str:
    """Return a tag such as B-X, b-x, B_X or X-B that occurs; empty if there is none."""
    tags = list(dict.fromkeys(tag for counts in files if counts for tag in counts.tags))
    if found := next((tag for tag in tags if all(split_tag(tag))), ""):
        return found
    similar = [tag for tag in tags if SIMILAR_TAG.fullmatch(tag)]
    has_outside = any(tag.upper() == "O" for tag in tags)
    return similar[0] if has_outside and 2 * len(similar) >= len(tags) - 1 else ""
