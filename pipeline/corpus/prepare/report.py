"""Count skipped, dropped, split and truncated rows, check their limits, and sum them up."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.corpus.dataset.manifest import Manifest, Split
from pipeline.corpus.fields.label_names import MAX_LISTED, LabelTable, shorten
from pipeline.corpus.prepare.dedup_and_split import SplitCounts
from pipeline.corpus.prepare.scan import MAX_ROW_WORDS
from pipeline.corpus.prepare.work_dir import Part, Scanned
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import (
    SKIP_DESCRIPTIONS,
    SKIPPED_BY_REQUEST,
    SkipReason,
    bad_row_error,
)
from pipeline.errors import InputError
from pipeline.wording import size

MIN_BYTES_FOR_RATE = 1_000_000
"""Bytes of input below which its rate is that of the start-up."""

LONG_TEXT_COUNTS = ("truncated", "split", "segments")
Skips = Mapping[SkipReason, tuple[int, str]]
"""Number of rows with each skip reason that occurs, and the place of the first one."""


def count(
    scans: Sequence[Scanned], split_counts: SplitCounts, parts: Sequence[Part]
) -> dict[str, int]:
    """Return the number of rows read, and the numbers of rows left out, by reason.

    All other rows are in the splits. `duplicates` include the `conflicting` rows. `truncated` and
    `split` rows are not left out; the splits have the `segments` in place of the `split` rows.
    """
    skips = _merge_skips(scans, parts)
    return {
        "rows": sum(scanned.rows for scanned in scans),
        **{str(reason): skips[reason][0] if reason in skips else 0 for reason in SkipReason},
        **vars(split_counts),
        **{name: sum(getattr(part, name) for part in parts) for name in LONG_TEXT_COUNTS},
    }


def check_skips(
    settings: CorpusSettings, scans: Sequence[Scanned], parts: Sequence[Part] = ()
) -> None:
    """Raises InputError if no row is usable, or if the skipped fraction is too large.

    With `corpus.on_bad_row=stop`, any unusable row is an error, also a row that was skipped by an
    earlier run whose results are reused.
    """
    skips = _merge_skips(scans, parts)
    if settings.on_bad_row == "stop":
        for reason, (_, place) in skips.items():
            if reason not in SKIPPED_BY_REQUEST:
                raise InputError(bad_row_error(place, reason, ""))
    rows = sum(scanned.rows for scanned in scans)
    if not rows:
        errors = [error for scanned in scans for error in scanned.empty_files.values()]
        more = f" (and so on for all {len(errors):,} input files)" if len(errors) > 1 else ""
        raise InputError(errors[0] + more)
    if skips.get(SkipReason.FILTERED, (0, ""))[0] == rows:
        raise InputError(_all_filtered_error(settings, scans, rows))
    check_share(settings, rows, skips)


def word_warnings(column: object, scans: Sequence[Scanned]) -> Iterator[str]:
    """Yield a line for each group of files that has rows with very many words, and one if each row
    has only one word. `column` is the column with the words."""
    for scanned in scans:
        if rows := scanned.long_rows:
            yield (
                f"{rows.place}: has more than {MAX_ROW_WORDS:,} words in one row"
                f" ({rows.count:,} such row(s)); check that sentences are separated, in CoNLL "
                "files by blank lines"
            )
    if max(scanned.max_words for scanned in scans) == 1:
        yield (
            f"corpus.text={column}: each row has only one word; if a row should be a sentence, "
            "write the words of a sentence as a list, or use a CoNLL file (corpus.format=conll)"
        )


def check_share(settings: CorpusSettings, rows: int, skips: Skips) -> None:
    """Raises InputError if all of `rows` are unusable, or a fraction above `max_skipped_ratio`.

    Rows that are filtered out are not counted at all.
    """
    filtered, _ = skips.get(SkipReason.FILTERED, (0, ""))
    rows -= filtered
    unusable_skips = {r: skip for r, skip in skips.items() if r not in SKIPPED_BY_REQUEST}
    unusable = sum(number for number, _ in unusable_skips.values())
    share = unusable / rows
    if share > settings.max_skipped_ratio or unusable == rows:
        reasons = "; ".join(
            f"{number:,} with {SKIP_DESCRIPTIONS[reason]}, first {place}"
            for reason, (number, place) in unusable_skips.items()
        )
        if unusable == rows:
            raise InputError(
                f"corpus.input: none of {rows:,} rows can be used: {reasons}; fix them, or correct "
                "the settings of the corpus"
            )
        raise InputError(
            f"corpus.max_skipped_ratio={settings.max_skipped_ratio}: {unusable:,} of {rows:,} rows "
            f"({share:.1%}) cannot be used: {reasons}; fix them, or raise corpus.max_skipped_ratio"
        )


def check_splits(settings: CorpusSettings, counts: dict[str, int], rows: dict[str, int]) -> None:
    """Raises InputError if a split is empty. `rows` has the number of rows of each split."""
    limits = {"max_tokens": SkipReason.TOO_LONG, "max_target_tokens": SkipReason.TARGET_TOO_LONG}
    hint = "".join(f", or raise corpus.{key}" for key, skip in limits.items() if counts[skip])
    for split, number in rows.items():
        if number == 0:
            raise InputError(
                f"corpus.validation={settings.validation!r}: no row is left for {split} of "
                f"{counts['rows']:,} ({_left_out(counts)}); use more rows or another "
                f"corpus.validation{hint}"
            )


def summary(
    manifest: Manifest,
    label_tables: Mapping[str, LabelTable],
    scans: Sequence[Scanned],
    parts: Sequence[Part],
    seconds: float,
) -> Iterator[str]:
    """Yield the log lines that sum up a finished preparation."""
    raw_bytes = sum(chunk.bytes for scanned in scans for chunk in scanned.chunks)
    rate = f", {size(raw_bytes / seconds)}/s" if raw_bytes >= MIN_BYTES_FOR_RATE else ""
    yield f"ready: {size(raw_bytes)} of input in {seconds:.1f} s{rate}"
    for name, split in manifest.splits.items():
        yield _split_line(name, split)
    for field, table in label_tables.items():
        yield _label_line(field, table.names, table.counts)
        for note in table.notes:
            yield f"  {field}: {note}"
        for label, place in list(table.once.items())[:5]:
            yield f"  label {label!r} is in only one row, which is left out: {place}"
    counts = manifest.report
    yield f"  left out of {counts['rows']:,} rows: {_left_out(counts)}"
    for reason, (number, place) in _merge_skips(scans, parts).items():
        if reason not in SKIPPED_BY_REQUEST:
            yield f"    {number:,} with {SKIP_DESCRIPTIONS[reason]}, first {place}"
    if empty := [name for scanned in scans for name in scanned.empty_files]:
        yield f"  {len(empty):,} file(s) without rows left out, first {empty[0]}"
    yield from _long_text_lines(manifest)


def contents(manifest: Manifest) -> list[str]:
    """Return the lines of `summary` on what the dataset holds, which training shows itself."""
    splits = [_split_line(name, split) for name, split in manifest.splits.items()]
    labels = [_label_line(f, names, manifest.counts[f]) for f, names in manifest.names.items()]
    return [*splits, *labels, *_long_text_lines(manifest)]


def _split_line(name: str, split: Split) -> str:
    return (
        f"  {name}: {split.rows:,} rows, {split.tokens:,} tokens, longest row "
        f"{split.max_length:,}, {len(split.shards)} shard(s) of "
        f"{size(sum(shard.bytes for shard in split.shards))}"
    )


def _label_line(field: str, names: Sequence[str], counts: Sequence[int]) -> str:
    pairs = list(zip(names, counts, strict=True))
    if len(pairs) > MAX_LISTED:
        pairs.sort(key=lambda pair: -pair[1])
    return f"  {field}: {shorten([f'{name} {number:,}' for name, number in pairs])}"


def _long_text_lines(manifest: Manifest) -> Iterator[str]:
    counts, max_tokens = manifest.report, manifest.settings["max_tokens"]
    if manifest.settings.get("overflow") == "truncate":
        yield f"  truncated at {max_tokens} tokens: {counts['truncated']:,} rows"
    elif manifest.settings.get("overflow") == "split":
        yield (
            f"  split at {max_tokens} tokens: {counts['split']:,} texts into "
            f"{counts['segments']:,} rows"
        )


def _left_out(counts: dict[str, int]) -> str:
    """Format the numbers of rows that are left out, by reason."""
    reasons = [
        f"{number:,} {name.replace('_', ' ')}"
        for name, number in counts.items()
        if number and name not in ("rows", "conflicting", *LONG_TEXT_COUNTS)
    ]
    conflicting = counts["conflicting"]
    note = f", {conflicting:,} of them with another label than the one kept" if conflicting else ""
    return (", ".join(reasons) or "none") + note


def _merge_skips(scans: Sequence[Scanned], parts: Sequence[Part]) -> Skips:
    """Add up the skipped rows of all files and chunks, which are in the order of the input."""
    skips: dict[SkipReason, tuple[int, str]] = {}

    for found in (*(scanned.skips for scanned in scans), *(part.skips for part in parts)):
        for reason, tally in found.items():
            value = f" ({tally.value})" if tally.value else ""
            number, place = skips.get(reason, (0, f"{tally.place}{value}"))
            skips[reason] = (number + tally.count, place)
    return skips


def _all_filtered_error(settings: CorpusSettings, scans: Sequence[Scanned], rows: int) -> str:
    """Format the error for filters that no row matches, with values of the filtered columns."""
    found = "; ".join(
        f"{column} has {', '.join(map(repr, values))}"
        for column, values in scans[0].filtered.items()
    )
    return (
        f"corpus.filters={settings.filters}: no row of {rows:,} has these values; {found}; set "
        "other values"
    )
