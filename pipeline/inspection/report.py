"""The report of an inspection, for a terminal of 80 columns."""

import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pipeline.corpus.fields.base import as_text
from pipeline.inspection.column import Column, Kind
from pipeline.inspection.config_text import config_text
from pipeline.inspection.detection import describe
from pipeline.inspection.histogram import histogram
from pipeline.inspection.inspection import Inspection
from pipeline.inspection.sampling import Sample
from pipeline.wording import quantity, size

WIDTH = 80
MAX_COLUMNS = 20
MAX_FILES = 5
MAX_LABELS = 10
MAX_PROBLEMS = 12
FIRST_ROWS = 3
EXAMPLE = 200


def report(inspection: Inspection, *, is_ascii: bool = False) -> str:
    """Return the findings of an inspection, in lines of at most 80 columns.

    `is_ascii` draws with ASCII characters only.
    """
    parts = [
        _files(inspection),
        _columns(inspection),
        _rows(inspection),
        _lengths(inspection, is_ascii=is_ascii),
        _labels(inspection, is_ascii=is_ascii),
        problem_lines(inspection),
        _task(inspection),
    ]
    blocks = ["\n".join(lines) for part in parts if (lines := list(part))]
    return "\n\n".join([*blocks, config_text(inspection).rstrip()])


def _files(inspection: Inspection) -> Iterator[str]:
    """Yield the format and size of each file, and which rows were read."""
    files, samples = inspection.files, inspection.table.samples
    for sample in samples[:MAX_FILES]:
        yield from _wrap(f"{sample.source.name}: {describe_sample(sample)}", "    ")
    if (more := len(samples) - MAX_FILES) > 0:
        yield f"... and {quantity(more, 'file')} more"
    if (unread := len(files.all) - len(samples)) > 0:
        yield f"{quantity(unread, 'more file')} not read"


def describe_sample(sample: Sample) -> str:
    """Return the format and size of a source, and which rows were read."""
    file_size = size(sample.bytes)
    rows = quantity(sample.total, "row")
    if not sample.is_exact:
        rows = f"about {_rounded(sample.total):,} rows (estimated)"
    text = f"{describe(sample.format)}, {file_size}, {rows}"
    if sample.total == len(sample.rows) and sample.is_exact:
        return text
    read = f"first {quantity(sample.first, 'row')}"
    if more := len(sample.rows) - sample.first:
        read += f", and {more:,} from the rest of it"
    return f"{text}; read here: {read}"


def _columns(inspection: Inspection) -> Iterator[str]:
    columns = list(inspection.table.columns.values())
    names = max([6, *(width(column.name) for column in columns[:MAX_COLUMNS])])
    names = min(names, 24)
    yield f"{'column':{names}}  {'type':8}  {'missing':>7}  {'distinct':>8}  example"
    for column in columns[:MAX_COLUMNS]:
        missing = f"{column.missing:.0%}" if column.missing else "-"
        if 0 < column.missing < 0.01:
            missing = "< 1%"
        name = fit(column.name, names)
        start = f"{name}  {column.kind.value:8}  {missing:>7}  {column.distinct:>8,}  "
        yield (start + fit(one_line(column.example), WIDTH - width(start))).rstrip()
    if (more := len(columns) - MAX_COLUMNS) > 0:
        yield f"... and {quantity(more, 'column')} more"


def _rows(inspection: Inspection) -> Iterator[str]:
    """Yield the first rows, with the columns that the task reads, or with all columns."""
    used = inspection.used or list(inspection.table.columns.values())
    yield f"first rows ({' | '.join(column.name for column in used)}):"
    for number in range(min(FIRST_ROWS, inspection.table.rows)):
        values = [one_line(_shown(column, number)) for column in used]
        yield "  " + fit(" | ".join(_shares(values, WIDTH - 2)), WIDTH - 2).rstrip()


def _shown(column: Column, number: int) -> str:
    value = column.values[number]
    if isinstance(value, list):
        return " ".join(map(as_text, value))
    if column.kind in (Kind.IMAGE, Kind.BYTES) and not isinstance(value, str):
        return "(image)" if column.kind is Kind.IMAGE else "(bytes)"
    return str(value) if isinstance(value, dict) else as_text(value)


def _shares(values: Sequence[str], available: int) -> list[str]:
    """Shorten values so that they fit on one line; long values share the space that is left."""
    left, result = available - 3 * (len(values) - 1), dict[int, str]()
    order = sorted(range(len(values)), key=lambda n: width(values[n]))
    for position, number in enumerate(order):
        share = max(left // (len(values) - position), 4)
        result[number] = fit(values[number], share).rstrip()
        left -= width(result[number])
    return [result[number] for number in range(len(values))]


def _lengths(inspection: Inspection, *, is_ascii: bool) -> Iterator[str]:
    kinds = (Kind.TEXT, Kind.LIST, Kind.LABEL)
    shown = [c for c in inspection.used if c.kind in kinds and c.words and c.mean_words >= 1.5]
    aligned = inspection.proposal.task == "tagging"
    for column in shown[: 1 if aligned else 2]:
        lengths = sorted(column.words)
        unit = "characters" if column.is_unspaced else "words"
        middle, high = lengths[(len(lengths) - 1) // 2], lengths[-(-19 * (len(lengths) - 1) // 20)]
        yield (
            f"length of {column.name} in {unit}: half have up to {middle:,}, 95 % up to {high:,}, "
            f"longest {lengths[-1]:,}"
        )
        yield from histogram(lengths, is_ascii=is_ascii)


def _labels(inspection: Inspection, *, is_ascii: bool) -> Iterator[str]:
    checked = inspection.checked
    if checked is None:
        return
    counts = Counter(checked.labels)
    for tags in checked.tags:
        counts.update(tags.tags)
    if not counts:
        return
    total, most = sum(counts.values()), max(counts.values())
    label = inspection.keys["label"].value
    name = label if isinstance(label, str) else "the columns of labels"
    part = "" if inspection.table.is_complete else f", in {checked.labeled:,} rows"
    yield f"labels in {name}{part}:"
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    names = min(max(width(n) for n, _ in ordered[:MAX_LABELS]), 30)
    for name, count in ordered[:MAX_LABELS]:
        bar = ("#" if is_ascii else "\u2588") * max(round(24 * count / most), 1)
        yield f"  {fit(one_line(name), names)}  {count:>8,}  {count / total:>5.1%}  {bar}"
    if (more := len(ordered) - MAX_LABELS) > 0:
        yield f"  and {more:,} more"


def problem_lines(inspection: Inspection) -> Iterator[str]:
    """Yield the problems with a title; nothing without problems."""
    if not inspection.problems:
        return
    yield "worth a look:"
    for line in inspection.problems[:MAX_PROBLEMS]:
        yield from _wrap(f"  - {line}", "    ")
    if (more := len(inspection.problems) - MAX_PROBLEMS) > 0:
        yield f"  and {more} more"


def _task(inspection: Inspection) -> Iterator[str]:
    proposal = inspection.proposal
    sure = "fits" if proposal.is_sure else "probably fits (another column is nearly as good)"
    yield from _wrap(f"task: {proposal.task} {sure}: {proposal.why}. A config for it:", "  ")


def _wrap(text: str, indent: str) -> Iterable[str]:
    return textwrap.wrap(
        text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def one_line(text: str) -> str:
    """Return a text without line breaks and control characters."""
    shortened = " ".join(text[: 4 * EXAMPLE].split())
    return "".join(
        c if unicodedata.category(c)[0] != "C" else "\ufffd" for c in shortened
    )  # fmt: skip


def width(text: str) -> int:
    """Return the width of a text in a terminal, in columns."""
    return sum(
        0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF")
        for c in text
    )


def fit(text: str, columns: int) -> str:
    """Return a text of exactly this width, shortened or padded with spaces."""
    if width(text) > columns:
        while text and width(text) > columns - 3:
            text = text[:-1]
        text += "..."
    return text + " " * (columns - width(text))


def _rounded(number: int) -> int:
    """Return an estimate with two digits."""
    digits = max(len(str(number)) - 2, 0)
    return int(round(number, -digits))
