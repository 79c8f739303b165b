"""Likely problems of a corpus: one line each, with the action to take."""

import difflib
import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.corpus.field_spec import FieldSpec
from pipeline.corpus.fields.example import Example, RowChecker
from pipeline.corpus.fields.label_names import label_key
from pipeline.corpus.fields.tag_schemes import TITLES, TagCounts, decide
from pipeline.corpus.readers.base import nested
from pipeline.corpus.settings import CorpusSettings
from pipeline.corpus.skip_reason import SKIP_DESCRIPTIONS, SkipReason, Tally, count_skip
from pipeline.errors import InputError
from pipeline.inspection.column import FEW_ROWS, Kind
from pipeline.inspection.form import Proposal
from pipeline.inspection.sampling import PART_ROWS, reader_settings
from pipeline.inspection.table import Table
from pipeline.wording import quantity

MAJORITY = 0.8
"""Maximum share of the most frequent label in a balanced corpus."""
SIMILAR = 0.84
"""Minimum similarity of two spellings of the same label."""
FEW_PER_LABEL = 5
MAX_LINES = 3
"""Maximum number of lines about similar labels."""
BYTES_PER_TOKEN = 4.0
WORDS_TO_TOKENS = 1.3
COVERED = 0.95
DEFAULT_TOKENS = int(CorpusSettings.model_fields["max_tokens"].default)
DEFAULT_SKIPPED = float(CorpusSettings.model_fields["max_skipped_ratio"].default)


@dataclass
class Checked:
    """Result of checking the rows of a sample as preparation does."""

    rows: int = 0
    skips: dict[SkipReason, Tally] = field(default_factory=dict)
    duplicates: int = 0
    contradicting: int = 0
    """Rows with the text of another row but another label."""
    first_contradiction: str = ""
    labels: Counter[str] = field(default_factory=Counter)
    """Number of rows with each label; of a large file, only in rows spread evenly over it."""
    labeled: int = 0
    """Rows whose labels are counted."""
    tags: list[TagCounts] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    """Estimated tokens of each row."""

    @property
    def skipped(self) -> float:
        """Share of the rows that are skipped."""
        return sum(tally.count for tally in self.skips.values()) / max(self.rows, 1)

    @property
    def max_tokens(self) -> int:
        """Length that the share COVERED of the rows does not exceed, rounded up."""
        if not self.tokens:
            return 0
        value = sorted(self.tokens)[min(int(COVERED * len(self.tokens)), len(self.tokens) - 1)]
        step = 10 ** max(int(math.log10(max(value, 1))) - 1, 0)
        return math.ceil(value / step) * step


def check_rows(table: Table, proposal: Proposal, keys: Mapping[str, Any]) -> Checked:
    """Check the rows of a sample as preparation does."""
    checked = Checked()
    checker = RowChecker.of(check_settings(proposal, keys), proposal.fields)
    positions = dict(enumerate(checker.fields))
    seen: dict[bytes, str] = {}
    for sample in table.samples:
        counts = TagCounts()
        has_parts = len(sample.rows) > sample.first
        for row in sample.rows:
            is_spread = not has_parts or row.number <= PART_ROWS
            checked.rows += 1
            place = row.place(sample.source.name) if row.number else f"{sample.source.name}, later"
            try:
                values = None if row.values is None else _selected(checker, row.values)
                example = checker.check(row._replace(values=values), sample.source.name)
            except InputError:
                continue  # a value that does not fit the task; the form has already judged this
            if isinstance(example, SkipReason):
                count_skip(checked.skips, example, place, row.detail)
                continue
            labels = [
                value
                for kind, value in zip(checker.fields, example.values, strict=True)
                if kind.has_one_name
            ]
            _add(checked, example, place, seen, str(labels))
            checked.labeled += is_spread
            for number, kind in positions.items():
                if kind.has_scheme:
                    counts.add(example.values[number], place)
                elif kind.has_names and is_spread:
                    checked.labels.update(label_key(n) for n in kind.names(example.values[number]))
                if number == 0:
                    checked.tokens.append(_tokens(example.values[0], by_word=kind.by_word))
        checked.tags.append(counts)
    return checked


def check_settings(proposal: Proposal, keys: Mapping[str, Any]) -> Any:
    """Return the section `corpus` with the keys of the reader and of the proposal's fields."""
    values = {"input": ["-"], **{n: v for n, v in keys.items() if n not in ("input", "root")}}
    values |= {name: key.value for name, key in proposal.keys.items()}
    reading = {n: v for n, v in values.items() if n in ("input", "format")}
    parts = [type(reader_settings(reading))]
    parts += [spec.kind_class.Settings for spec in proposal.fields]
    bases = [
        p for p in dict.fromkeys(parts) if not any(q is not p and issubclass(q, p) for q in parts)
    ]
    settings: Any = type("CheckedSettings", tuple(bases), {})
    return settings(**{n: v for n, v in values.items() if n in settings.model_fields})


def _selected(checker: RowChecker, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of the columns to check, including keys inside objects."""
    record = dict(values)
    names = list(record)
    return {
        column: record[names[int(column)]]
        if column not in record and column.lstrip("-").isdigit() and names
        else nested(record, column)
        for column in checker.columns
    }


def _add(
    checked: Checked, example: Example, place: str, seen: dict[bytes, str], labels: str
) -> None:
    """Count the example if it repeats another one. `seen` has the labels by example identity."""
    if example.whole_identity not in seen:
        seen[example.whole_identity] = labels
    elif seen[example.whole_identity] == labels:
        checked.duplicates += 1
    else:
        checked.contradicting += 1
        checked.first_contradiction = checked.first_contradiction or place


def _tokens(value: Any, *, by_word: bool) -> int:
    """Estimate the number of tokens that a subword tokenizer trained on the corpus would give."""
    if by_word:
        return len(value)
    words = len(value.split())
    return round(
        max(WORDS_TO_TOKENS * words, len(value.encode("utf-8", "replace")) / BYTES_PER_TOKEN)
    )


def find(table: Table, proposal: Proposal, checked: Checked) -> list[str]:
    """Return a line for each problem, the most serious first."""
    return [
        *_skips(checked),
        *(_repeats(checked, proposal) if len(proposal.fields) > 1 else ()),
        *_labels(checked, proposal, is_complete=table.is_complete),
        *_tags(checked),
        *(_lengths(checked) if len(proposal.fields) > 1 else ()),
        *_columns(table, proposal),
        *different_columns(table),
    ]


def _skips(checked: Checked) -> Iterator[str]:
    for reason, tally in sorted(checked.skips.items(), key=lambda item: -item[1].count):
        detail = f" ({tally.value})" if tally.value else ""
        yield (
            f"{_rows(tally.count)} would be left out: {SKIP_DESCRIPTIONS[reason]}; first "
            f"{tally.place}{detail}"
        )
    if checked.skipped > DEFAULT_SKIPPED:
        yield (
            f"{checked.skipped:.0%} of the rows would be left out, more than "
            f"corpus.max_skipped_ratio={DEFAULT_SKIPPED}: correct the rows, or raise this key"
        )


def _repeats(checked: Checked, proposal: Proposal) -> Iterator[str]:
    if checked.duplicates:
        yield (
            f"{_rows(checked.duplicates)} repeat{'s' * (checked.duplicates == 1)} another row: "
            "only one of each is used (corpus.drop_duplicates)"
        )
    if checked.contradicting:
        yield (
            f"{_rows(checked.contradicting)} with the same text as another row but a different "
            f"label, first {checked.first_contradiction}: correct the labels; only the first row "
            "of each text is used"
        )
    if checked.rows - checked.duplicates < 50 and checked.rows >= FEW_ROWS:
        yield f"only {checked.rows - checked.duplicates} rows: results will vary from run to run"


def _labels(checked: Checked, proposal: Proposal, *, is_complete: bool) -> Iterator[str]:
    counts = checked.labels
    if not counts or sum(counts.values()) < FEW_ROWS:
        return
    if len(counts) == 1 and proposal.task != "multilabel":
        yield f"all rows have the label {next(iter(counts))!r}: there is nothing to learn"
        return
    label, most = counts.most_common(1)[0]
    share = most / sum(counts.values())
    if proposal.task == "classification" and share > MAJORITY:
        yield (
            f"imbalance: {share:.0%} of the rows have the label {label!r}; compare accuracy with "
            "that, or set task.class_weights=balanced"
        )
    spellings = list(similar_labels(counts))
    for rare, common in spellings[:MAX_LINES]:
        yield (
            f"labels {rare!r} ({counts[rare]}) and {common!r} ({counts[common]:,}) may be the "
            "same: correct the file, or merge them with corpus.label_names"
        )
    if not is_complete:
        return  # other rows may have the labels that are rare here
    known = {rare for rare, _ in spellings}
    once = [name for name, count in counts.items() if count == 1 and name not in known]
    if once:
        shown = ", ".join(map(repr, once[:3])) + ", ..." * (len(once) > 3)
        yield f"{quantity(len(once), 'label')} in only one row, which is left out: {shown}"
    few = [n for n, c in counts.items() if 1 < c < FEW_PER_LABEL and n not in known]
    if few:
        shown = ", ".join(map(repr, few[:3])) + ", ..." * (len(few) > 3)
        yield f"{quantity(len(few), 'label')} in fewer than {FEW_PER_LABEL} rows: {shown}"


def similar_labels(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield (rare label, frequent label) for pairs that may be spellings of the same label."""
    by_key: defaultdict[str, list[str]] = defaultdict(list)
    for name in counts:
        by_key["".join(filter(str.isalnum, name.casefold())) or name].append(name)
    found: set[str] = set()
    for names in by_key.values():
        common = max(names, key=lambda name: (counts[name], name))
        for name in names:
            if name != common:
                found.add(name)
                yield name, common
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    if len(ordered) > 300:
        return
    for rare in reversed(ordered):
        if rare in found or len(rare) < 4 or any(map(str.isdigit, rare)):
            continue
        frequent = [n for n in ordered if counts[n] >= 5 * counts[rare] and n not in found]
        for common in difflib.get_close_matches(rare, frequent, 1, SIMILAR):
            yield rare, common


def _tags(checked: Checked) -> Iterator[str]:
    counts = [c for c in checked.tags if c.rows]
    if not counts:
        return
    for reading in decide(counts, [])[:1]:
        if not reading.scheme:
            continue
        yield f"tags are in the scheme {reading.describe()}"
        for reason in dict.fromkeys(r for c in counts for r in c.skips[reading.scheme]):
            tallies = [
                c.skips[reading.scheme][reason] for c in counts if reason in c.skips[reading.scheme]
            ]
            detail = f" ({tallies[0].value})" if tallies[0].value else ""
            yield (
                f"{_rows(sum(t.count for t in tallies))} would be left out: "
                f"{SKIP_DESCRIPTIONS[reason]} in {TITLES[reading.scheme]}; first "
                f"{tallies[0].place}{detail}"
            )


def _lengths(checked: Checked) -> Iterator[str]:
    longer = sum(tokens > DEFAULT_TOKENS for tokens in checked.tokens)
    if longer > (1 - COVERED) * len(checked.tokens):
        yield (
            f"{longer / len(checked.tokens):.0%} of the texts have more than "
            f"corpus.max_tokens={DEFAULT_TOKENS} tokens and would be truncated; "
            f"corpus.max_tokens={checked.max_tokens} would keep {COVERED:.0%} of them whole but "
            "take more time and memory; corpus.overflow=split would keep all tokens"
        )


def _columns(table: Table, proposal: Proposal) -> Iterator[str]:
    used = set(used_columns(proposal.fields))
    for column in table.columns.values():
        if column.kind is Kind.EMPTY and table.rows >= FEW_ROWS:
            yield f"column {column.name!r} is empty"
        elif column.name in used and column.missing > 0.2:
            yield f"column {column.name!r} is empty in {column.missing:.0%} of the rows"


def used_columns(fields: Sequence[FieldSpec]) -> list[str]:
    return [column for spec in fields for column in spec.columns]


def different_columns(table: Table) -> Iterator[str]:
    """Yield a line about the first file whose columns differ from those of `samples[0]`."""
    first = table.samples[0]
    for sample in table.samples[1:]:
        missing = [name for name in first.columns if name not in sample.columns]
        more = [name for name in sample.columns if name not in first.columns]
        if missing or more:
            parts = [f"lacks {', '.join(map(repr, missing[:3]))}"] * bool(missing)
            parts += [f"also has {', '.join(map(repr, more[:3]))}"] * bool(more)
            difference = " and ".join(parts)
            yield (
                f"{sample.source.name} has different columns than {first.source.name}: it "
                f"{difference}"
            )
            return


def _rows(number: int) -> str:
    return quantity(number, "row")
