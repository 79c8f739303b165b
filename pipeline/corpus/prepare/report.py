"""What happened to every row: the counts, the limit on unusable rows, and the summary."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.corpus.dataset.manifest import Manifest
from pipeline.corpus.fields.label_names import LabelTable
from pipeline.corpus.prepare.dedup_and_split import SplitCounts
from pipeline.corpus.prepare.work_dir import Part, Scanned
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason, Tally
from pipeline.corpus.worker_pool import MB
from pipeline.errors import InputError

OF_LONG_TEXTS = ("truncated", "split", "segments")


def count(scans: Sequence[Scanned], chosen: SplitCounts, parts: Sequence[Part]) -> dict[str, int]:
    """Rows read and rows left out, by reason; what remains of `rows` is in the splits.

    `conflicting` are some of `duplicates`; `truncated` and `split` are some of the rows that
    remain, and `segments` are in the splits in place of the latter.
    """
    skips = _skips(scans, parts)
    return {
        "rows": sum(scanned.rows for scanned in scans),
        **{str(skip): skips[skip][0] if skip in skips else 0 for skip in SkipReason},
        **vars(chosen),
        **{name: sum(getattr(part, name) for part in parts) for name in OF_LONG_TEXTS},
    }


def check_skips(
    settings: CorpusSettings, scans: Sequence[Scanned], parts: Sequence[Part] = ()
) -> None:
    """Raises InputError if no row is usable, or more than `max_skipped_ratio` are not."""
    skips = _skips(scans, parts)
    rows = sum(scanned.rows for scanned in scans)
    if skips.get(SkipReason.FILTERED, (0, ""))[0] == rows:
        raise InputError(_nothing_kept(settings, scans, rows))
    check_share(settings, rows, skips)


def check_share(
    settings: CorpusSettings, rows: int, skips: Mapping[SkipReason, tuple[int, str]]
) -> None:
    """Raises InputError if more than `max_skipped_ratio` of rows are unusable. Of each kind of skip is
    given how many there are, and file:row of the first."""
    filtered, _ = skips.get(SkipReason.FILTERED, (0, ""))
    as_wished = (
        SkipReason.FILTERED,
        SkipReason.TOO_LONG,
        SkipReason.TARGET_TOO_LONG,
    )  # by settings that say so
    skips = {skip: found for skip, found in skips.items() if skip not in as_wished}
    unusable = sum(number for number, _ in skips.values())
    share = unusable / (rows - filtered)
    if share > settings.max_skipped_ratio or unusable == rows - filtered:
        kinds = "; ".join(
            f"{number:,} with {SKIP_DESCRIPTIONS[skip]}, first {place}"
            for skip, (number, place) in skips.items()
        )
        raise InputError(
            f"corpus.max_skipped_ratio={settings.max_skipped_ratio}: {unusable:,} of {rows - filtered:,} rows "
            f"({share:.1%}) cannot be used: {kinds}; mend them, or raise corpus.max_skipped_ratio"
        )


def check_splits(settings: CorpusSettings, report: dict[str, int], rows: dict[str, int]) -> None:
    """Raises InputError if a split is empty."""
    long = {"max_tokens": SkipReason.TOO_LONG, "max_target_tokens": SkipReason.TARGET_TOO_LONG}
    hint = "".join(f", or raise corpus.{key}" for key, skip in long.items() if report[skip])
    for split, number in rows.items():
        if number == 0:
            raise InputError(
                f"corpus.validation={settings.validation!r}: no row is left for {split} of "
                f"{report['rows']:,} ({_left_out(report)}); give more rows or another "
                f"validation{hint}"
            )


def summary(
    manifest: Manifest, names: Mapping[str, LabelTable], raw_bytes: int, seconds: float
) -> Iterator[str]:
    """What a person wants to know at the end."""
    yield (
        f"ready: {raw_bytes / MB:.1f} MB of input in {seconds:.1f} s, "
        f"{raw_bytes / MB / seconds:.1f} MB/s"
    )
    for name, split in manifest.splits.items():
        yield (
            f"  {name}: {split.rows:,} rows, {split.tokens:,} tokens, the longest row "
            f"{split.max_length:,}, {len(split.shards)} shard(s) of "
            f"{sum(shard.bytes for shard in split.shards) / MB:.1f} MB"
        )
    for field, labels in names.items():
        pairs = zip(labels.names, labels.counts, strict=True)
        shown = [f"{name} {number:,}" for name, number in pairs][:10]
        yield f"  {field}: {', '.join(shown)}{', ...' if len(labels.names) > 10 else ''}"
        for label, place in list(labels.once.items())[:5]:
            yield f"  label {label!r} stands in one row only, so the row is left out: {place}"
    counts = manifest.report
    yield f"  left out of {counts['rows']:,} rows: {_left_out(counts)}"
    if manifest.fields[0].is_image:
        return
    if manifest.settings["overflow"] == "truncate":
        yield f"  cut at {manifest.settings['max_tokens']} tokens: {counts['truncated']:,} rows"
    elif manifest.settings["overflow"] == "split":
        yield (
            f"  split at {manifest.settings['max_tokens']} tokens: {counts['split']:,} texts into "
            f"{counts['segments']:,} rows"
        )


def _left_out(report: dict[str, int]) -> str:
    kinds = [
        f"{number:,} {name.replace('_', ' ')}"
        for name, number in report.items()
        if number and name not in ("rows", "conflicting", *OF_LONG_TEXTS)
    ]
    conflicting = report["conflicting"]
    note = f", {conflicting:,} of them with another label than the one kept" if conflicting else ""
    return (", ".join(kinds) or "none") + note


def _skips(scans: Sequence[Scanned], parts: Sequence[Part]) -> dict[SkipReason, tuple[int, str]]:
    """Of each kind of skip that occurs: how many, and file:row of the first."""
    found: dict[SkipReason, tuple[int, str]] = {}

    def add(skip: SkipReason, tally: Tally, name: str) -> None:
        value = f" ({tally.value})" if tally.value else ""
        number, place = found.get(skip, (0, f"{name}:{tally.row}{value}"))
        found[skip] = (number + tally.count, place)

    for scanned in scans:
        for skip, tally in scanned.skips.items():
            add(skip, tally, scanned.file.name)
    for part in parts:
        for skip, tally in part.skips.items():
            add(skip, tally, part.file)
    return found


def _nothing_kept(settings: CorpusSettings, scans: Sequence[Scanned], rows: int) -> str:
    held = "; ".join(
        f"{column} holds {', '.join(map(repr, values))}"
        for column, values in scans[0].filtered.items()
    )
    return (
        f"corpus.filters={settings.filters}: keeps none of {rows:,} rows; {held}; name other values"
    )
