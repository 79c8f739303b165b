"""What happened to every row: the counts, the limit on unusable rows, and the summary."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.corpus.choose import Chosen
from pipeline.corpus.dataset import Manifest
from pipeline.corpus.labels import Labels
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skips import MEANING, Skip
from pipeline.corpus.stages import Part, Scanned, Tally
from pipeline.corpus.work import MB
from pipeline.errors import InputError

OF_LONG_TEXTS = ("truncated", "split", "segments")


def count(scans: Sequence[Scanned], chosen: Chosen, parts: Sequence[Part]) -> dict[str, int]:
    """Rows read and rows left out, by reason; what remains of `rows` is in the splits.

    `conflicting` are some of `duplicates`; `truncated` and `split` are some of the rows that
    remain, and `segments` are in the splits in place of the latter.
    """
    skips = _skips(scans, parts)
    return {
        "rows": sum(scanned.rows for scanned in scans),
        **{str(skip): skips[skip][0] if skip in skips else 0 for skip in Skip},
        **vars(chosen),
        **{name: sum(getattr(part, name) for part in parts) for name in OF_LONG_TEXTS},
    }


def check_skips(
    settings: CorpusSettings, scans: Sequence[Scanned], parts: Sequence[Part] = ()
) -> None:
    """Raises InputError if no row is usable, or more than `max_skipped` are not."""
    skips = _skips(scans, parts)
    rows = sum(scanned.rows for scanned in scans)
    if skips.get(Skip.FILTERED, (0, ""))[0] == rows:
        raise InputError(_nothing_kept(settings, scans, rows))
    check_share(settings, rows, skips)


def check_share(settings: CorpusSettings, rows: int, skips: Mapping[Skip, tuple[int, str]]) -> None:
    """Raises InputError if more than `max_skipped` of rows are unusable. Of each kind of skip is
    given how many there are, and file:row of the first."""
    filtered, _ = skips.get(Skip.FILTERED, (0, ""))
    as_wished = (Skip.FILTERED, Skip.TOO_LONG, Skip.TARGET_TOO_LONG)  # by settings that say so
    skips = {skip: found for skip, found in skips.items() if skip not in as_wished}
    unusable = sum(number for number, _ in skips.values())
    share = unusable / (rows - filtered)
    if share > settings.max_skipped or unusable == rows - filtered:
        kinds = "; ".join(
            f"{number:,} with {MEANING[skip]}, first {place}"
            for skip, (number, place) in skips.items()
        )
        raise InputError(
            f"corpus.max_skipped={settings.max_skipped}: {unusable:,} of {rows - filtered:,} rows "
            f"({share:.1%}) cannot be used: {kinds}; mend them, or raise corpus.max_skipped"
        )


def check_splits(settings: CorpusSettings, report: dict[str, int], rows: dict[str, int]) -> None:
    """Raises InputError if a split is empty."""
    long = {"max_tokens": Skip.TOO_LONG, "max_target_tokens": Skip.TARGET_TOO_LONG}
    hint = "".join(f", or raise corpus.{key}" for key, skip in long.items() if report[skip])
    for split, number in rows.items():
        if number == 0:
            raise InputError(
                f"corpus.validation={settings.validation!r}: no row is left for {split} of "
                f"{report['rows']:,} ({_left_out(report)}); give more rows or another "
                f"validation{hint}"
            )


def summary(
    manifest: Manifest, names: Mapping[str, Labels], raw_bytes: int, seconds: float
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
    if manifest.fields[0].pictured:
        return
    if manifest.settings["long_texts"] == "truncate":
        yield f"  cut at {manifest.settings['max_tokens']} tokens: {counts['truncated']:,} rows"
    elif manifest.settings["long_texts"] == "split":
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


def _skips(scans: Sequence[Scanned], parts: Sequence[Part]) -> dict[Skip, tuple[int, str]]:
    """Of each kind of skip that occurs: how many, and file:row of the first."""
    found: dict[Skip, tuple[int, str]] = {}

    def add(skip: Skip, tally: Tally, name: str) -> None:
        value = f" ({tally.value})" if tally.value else ""
        number, place = found.get(skip, (0, f"{name}:{tally.row}{value}"))
        found[skip] = (number + tally.count, place)

    for scanned in scans:
        for skip, tally in scanned.skips.items():
            add(skip, tally, scanned.file.name)
    for part in parts:
        for skip, tally in part.skips.items():
            add(skip, tally, part.name)
    return found


def _nothing_kept(settings: CorpusSettings, scans: Sequence[Scanned], rows: int) -> str:
    held = "; ".join(
        f"{column} holds {', '.join(map(repr, values))}"
        for column, values in scans[0].filtered.items()
    )
    return f"corpus.where={settings.where}: keeps none of {rows:,} rows; {held}; name other values"
